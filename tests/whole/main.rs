//! The whole program, from a log to topics and tables, held against what must come out: by plain
//! sequential code, by truth files, and by a consumer of the outputs that shares nothing with the
//! job. One binary, so that it is linked once; `cargo test --test whole`.

mod attribution;
mod full_disk;
mod generations;
mod live;
mod outputs;
mod own_schema;
mod partitions;
mod place;
mod real;
mod shop;
mod stop;
mod upgrade;
mod walk;
mod workers;
