//! The processes of a job find each other: each listens at its own address, connects to those before it, and waits
//! for those after it. Bounded: who does not answer in time is named.
//!
//! Timely's own way waits for ever. Besides, the first process must have made the outputs ready before another one
//! opens them, and the others must hear when it gives up; the connections are there to say both.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use thiserror::Error;
use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};

/// What a connection begins with: a word, then three numbers.
const GREETING: &[u8; 8] = b"visitfl2";
/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a stranger may take to say who they are.
const MANNERS: Duration = Duration::from_secs(2);

/// Why processes did not find each other.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// This process cannot listen at its address.
    #[error("cannot listen at {host}, the address of this process (--hosts): {source}")]
    Listen {
        /// The address.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// Another process was not there in time.
    #[error("no answer from process {process} at {host} within {} s: {why}", patience.as_secs())]
    Silent {
        /// Which one.
        process: usize,
        /// Its address.
        host: String,
        /// How long it was waited for.
        patience: Duration,
        /// What the last attempt came to.
        why: String,
    },
    /// Another process was started with other options.
    #[error(
        "process {process} was started {theirs}, this one {ours}; expected the same options for all"
    )]
    Differ {
        /// Which one.
        process: usize,
        /// What it says.
        theirs: Shape,
        /// What is so here.
        ours: Shape,
    },
    /// The first process could not start.
    #[error("process 0 at {host} did not start; it says why")]
    GivenUp {
        /// Its address.
        host: String,
    },
    /// A connection broke.
    #[error("the connection to process {process} at {host}: {source}")]
    Broken {
        /// Which one.
        process: usize,
        /// Its address.
        host: String,
        /// How.
        source: io::Error,
    },
}

/// What must be the same on all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many processes there are.
    pub processes: u32,
    /// How many workers each has.
    pub workers: u32,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "with --of {} and {} workers",
            self.processes, self.workers
        )
    }
}

/// Connections to all other processes.
#[derive(Debug)]
pub struct Connections {
    process: usize,
    hosts: Vec<String>,
    workers: usize,
    sockets: Vec<Option<TcpStream>>,
}

impl Connections {
    /// Finds the others, for at most `patience`.
    ///
    /// # Errors
    /// An address that cannot be listened at, processes that do not answer, or that were started otherwise.
    pub fn find(
        process: usize,
        hosts: Vec<String>,
        workers: usize,
        patience: Duration,
    ) -> Result<Connections, ConnectError> {
        let until = Instant::now() + patience;
        let host = &hosts[process];
        let listener = TcpListener::bind(host).and_then(|l| l.set_nonblocking(true).map(|()| l));
        let listener = listener.map_err(|source| ConnectError::Listen {
            host: host.clone(),
            source,
        })?;
        let ours = Shape {
            processes: hosts.len() as u32,
            workers: workers as u32,
        };
        let mut sockets: Vec<Option<TcpStream>> = hosts.iter().map(|_| None).collect();
        let silent = |process: usize, why: String| ConnectError::Silent {
            process,
            host: hosts[process].clone(),
            patience,
            why,
        };
        for (other, host) in hosts.iter().enumerate().take(process) {
            sockets[other] = Some(loop {
                match call(host, process, ours) {
                    Ok((stream, theirs)) if theirs == ours => break stream,
                    Ok((_, theirs)) => {
                        return Err(ConnectError::Differ {
                            process: other,
                            theirs,
                            ours,
                        });
                    }
                    Err(error) if Instant::now() >= until => {
                        return Err(silent(other, error.to_string()));
                    }
                    Err(_) => std::thread::sleep(PAUSE),
                }
            });
        }
        while let Some(missing) = (process + 1..hosts.len()).find(|other| sockets[*other].is_none())
        {
            match listener.accept() {
                Ok((stream, _)) => {
                    // Whoever greets in another way is none of ours.
                    let Ok((other, theirs)) = answer(&stream, ours) else {
                        continue;
                    };
                    if theirs != ours {
                        return Err(ConnectError::Differ {
                            process: other,
                            theirs,
                            ours,
                        });
                    }
                    if other > process && other < hosts.len() {
                        sockets[other] = Some(stream);
                    }
                }
                Err(_) if Instant::now() >= until => {
                    return Err(silent(missing, "it has not called".to_owned()));
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        Ok(Connections {
            process,
            hosts,
            workers,
            sockets,
        })
    }

    /// Waits until the first process has begun, or, on the first, lets it begin and tells the others;
    /// the number that it comes to.
    ///
    /// # Errors
    /// Those of `begin`; that the first process has given up.
    pub fn in_order<E: From<ConnectError>>(
        &mut self,
        begin: impl FnOnce() -> Result<u64, E>,
    ) -> Result<u64, E> {
        if self.process > 0 {
            let mut number = [0; 8];
            let first = self.sockets[0].as_mut();
            let said = first.map_or(Ok(()), |socket| socket.read_exact(&mut number));
            if said.is_err() {
                return Err(ConnectError::GivenUp {
                    host: self.hosts[0].clone(),
                }
                .into());
            }
            return Ok(u64::from_be_bytes(number));
        }
        let number = begin()?;
        for (process, socket) in self.sockets.iter_mut().enumerate() {
            let Some(socket) = socket else { continue };
            let host = || self.hosts[process].clone();
            let told = socket.write_all(&number.to_be_bytes());
            told.map_err(|source| ConnectError::Broken {
                process,
                host: host(),
                source,
            })?;
        }
        Ok(number)
    }

    /// What timely needs to make workers that talk over these connections.
    ///
    /// # Errors
    /// A connection that cannot be taken over.
    pub fn allocators(self) -> io::Result<(Vec<AllocatorBuilder>, Box<dyn std::any::Any + Send>)> {
        let hooks = Hooks::default();
        let local = ProcessBuilder::new_typed_vector(
            self.workers,
            hooks.refill.clone(),
            hooks.spill.clone(),
        );
        let (builders, guard) = initialize_networking_from_sockets(
            local,
            self.sockets,
            self.process,
            self.workers,
            hooks,
        )?;
        Ok((
            builders.into_iter().map(AllocatorBuilder::Tcp).collect(),
            Box::new(guard),
        ))
    }
}

fn greet(mut stream: &TcpStream, process: usize, shape: Shape) -> io::Result<()> {
    let mut greeting = GREETING.to_vec();
    for number in [process as u32, shape.processes, shape.workers] {
        greeting.extend_from_slice(&number.to_be_bytes());
    }
    stream.write_all(&greeting)
}

fn greeted(mut stream: &TcpStream) -> io::Result<(usize, Shape)> {
    let mut greeting = [0; 20];
    stream.read_exact(&mut greeting)?;
    if greeting[..8] != GREETING[..] {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "another program answers there",
        ));
    }
    let number =
        |at: usize| u32::from_be_bytes(greeting[at..at + 4].try_into().expect("four bytes"));
    Ok((
        number(8) as usize,
        Shape {
            processes: number(12),
            workers: number(16),
        },
    ))
}

/// Calls the process at `host`, and says how it was started.
fn call(host: &str, process: usize, shape: Shape) -> io::Result<(TcpStream, Shape)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, MANNERS) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(MANNERS))?;
                greet(&stream, process, shape)?;
                let (_, theirs) = greeted(&stream)?;
                stream.set_read_timeout(None)?;
                return Ok((stream, theirs));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Hears who calls, and says how this process was started.
fn answer(stream: &TcpStream, shape: Shape) -> io::Result<(usize, Shape)> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(MANNERS))?;
    let heard = greeted(stream)?;
    greet(stream, 0, shape)?;
    stream.set_read_timeout(None)?;
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses that nobody listens at: the system gave them out and has them back.
    fn free(count: usize) -> Vec<String> {
        let listeners: Vec<_> = (0..count)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        listeners
            .iter()
            .map(|l| l.local_addr().unwrap().to_string())
            .collect()
    }

    const SOON: Duration = Duration::from_millis(200);
    const EVER: Duration = Duration::from_secs(60);

    fn start(
        process: usize,
        hosts: &[String],
        workers: usize,
    ) -> std::thread::JoinHandle<Result<Connections, ConnectError>> {
        let hosts = hosts.to_vec();
        std::thread::spawn(move || Connections::find(process, hosts, workers, EVER))
    }

    #[test]
    fn three_find_each_other_and_the_first_goes_first() {
        let hosts = free(3);
        let all: Vec<_> = (0..3)
            .rev()
            .map(|process| start(process, &hosts, 2))
            .collect();
        let mut all: Vec<_> = all
            .into_iter()
            .map(|thread| thread.join().unwrap().unwrap())
            .collect();
        let mut first = all.pop().unwrap();
        let begun = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let waiting: Vec<_> = all
            .into_iter()
            .map(|mut other| {
                let begun = begun.clone();
                std::thread::spawn(move || {
                    let number = other.in_order(|| {
                        Err(ConnectError::GivenUp {
                            host: "only the first begins".to_owned(),
                        })
                    });
                    (number, begun.load(std::sync::atomic::Ordering::SeqCst))
                })
            })
            .collect();
        let begin = || {
            begun.store(true, std::sync::atomic::Ordering::SeqCst);
            Ok::<u64, ConnectError>(42)
        };
        assert_eq!(first.in_order(begin).unwrap(), 42);
        for thread in waiting {
            let (number, begun) = thread.join().unwrap();
            assert_eq!((number.unwrap(), begun), (42, true));
        }
    }

    #[test]
    fn who_does_not_answer_is_named() {
        let hosts = free(2);
        for (process, other) in [(0, 1), (1, 0)] {
            let error = Connections::find(process, hosts.clone(), 1, SOON)
                .unwrap_err()
                .to_string();
            let named = format!("no answer from process {other} at {}", hosts[other]);
            assert!(error.contains(&named), "{error}");
        }
    }

    #[test]
    fn an_address_in_use_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hosts = vec![
            listener.local_addr().unwrap().to_string(),
            "127.0.0.1:1".to_owned(),
        ];
        let error = Connections::find(0, hosts.clone(), 1, SOON)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("cannot listen at {}", hosts[0])),
            "{error}"
        );
    }

    #[test]
    fn other_options_are_an_error_on_both_sides() {
        let hosts = free(2);
        let both = [start(0, &hosts, 1), start(1, &hosts, 2)];
        for thread in both {
            let error = thread.join().unwrap().unwrap_err().to_string();
            assert!(
                error.contains("with --of 2 and 2 workers")
                    && error.contains("with --of 2 and 1 workers"),
                "{error}"
            );
        }
    }

    #[test]
    fn others_hear_that_the_first_gives_up() {
        let hosts = free(2);
        let (first, second) = (start(0, &hosts, 1), start(1, &hosts, 1));
        let (first, mut second) = (
            first.join().unwrap().unwrap(),
            second.join().unwrap().unwrap(),
        );
        drop(first);
        let error = second.in_order(|| Ok::<u64, ConnectError>(0)).unwrap_err();
        assert!(matches!(error, ConnectError::GivenUp { .. }), "{error}");
    }

    #[test]
    fn a_stranger_is_not_taken_for_a_process() {
        let hosts = free(2);
        let first = start(0, &hosts, 1);
        let mut stranger = loop {
            match TcpStream::connect(&hosts[0]) {
                Ok(stream) => break stream,
                Err(_) => std::thread::sleep(PAUSE),
            }
        };
        stranger
            .write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            .unwrap();
        let second = start(1, &hosts, 1).join().unwrap();
        assert!(second.is_ok() && first.join().unwrap().is_ok());
    }
}
