//! Whether the disk holds what a job names. Apart from reading the job file, since an example can
//! be right on a machine that has none of its data. Looks only, and creates nothing.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{JobError, JobFile};

/// Checks that what the job reads is there, and that its outputs can be where they are to be. Only
/// settings of which `sure` is true are looked at.
pub(super) fn check(file: &JobFile, sure: &dyn Fn(&str) -> bool) -> Vec<JobError> {
    let mut errors: Vec<JobError> = Vec::new();
    let mut check = |setting: &str, path: Option<&Path>, check: fn(&Path) -> Result<(), String>| {
        if let Some(Err(expected)) = path.filter(|_| sure(setting)).map(check) {
            errors.push(file.wrong(setting, expected));
        }
    };
    let job = &file.job;
    check("source.log", job.source.log.as_deref(), folder_to_read);
    check(
        "schemas.store",
        job.schemas.store.as_deref(),
        folder_to_read,
    );
    check(
        "schemas.reader",
        job.schemas.reader.as_deref(),
        file_to_read,
    );
    check("enrich.geoip", job.enrich.geoip.as_deref(), file_to_read);
    check(
        "enrich.user_agents",
        job.enrich.user_agents.as_deref(),
        file_to_read,
    );
    check("enrich.robots", job.enrich.robots.as_deref(), file_to_read);
    check("outputs.log", job.outputs.log.as_deref(), folder_to_write);
    check(
        "outputs.files",
        job.outputs.files.as_deref(),
        folder_to_write,
    );
    check(
        "outputs.schemas",
        job.outputs.schemas.as_deref(),
        folder_to_write,
    );
    check("state.dir", job.state.dir.as_deref(), folder_to_write);
    check(
        "observe.frontier_log",
        job.observe.frontier_log.as_deref(),
        file_to_write,
    );
    // A variable of the environment is looked at when its tokens are.
    let tokens = job.serve.tokens.as_deref();
    let tokens = tokens.filter(|path| crate::serve::access::variable(path).is_none());
    check("serve.tokens", tokens, file_to_read);
    errors
}

fn folder_to_read(path: &Path) -> Result<(), String> {
    match fs::read_dir(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("a folder that can be read, but {}", reason(&error))),
    }
}

fn file_to_read(path: &Path) -> Result<(), String> {
    match File::open(path).and_then(|file| file.metadata()) {
        Ok(found) if found.is_dir() => {
            Err("a file that can be read, but this is a folder".to_owned())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("a file that can be read, but {}", reason(&error))),
    }
}

/// The folder may be made when the job starts, if what is above it is a folder.
fn folder_to_write(path: &Path) -> Result<(), String> {
    // What is above a mere name is the working directory.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let absolute = std::path::absolute(path).map_err(|error| reason(&error))?;
    for above in absolute.ancestors() {
        match fs::metadata(above) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => return Err(format!("a folder, but {} is a file", above.display())),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(format!("a folder that can be made, but {}", reason(&error))),
        }
    }
    Ok(())
}

fn file_to_write(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err("a file, but this is a folder".to_owned());
    }
    path.parent().map_or(Ok(()), folder_to_write)
}

/// An error of the system as the end of a sentence.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is none".to_owned(),
        io::ErrorKind::NotADirectory => "this, or what it is in, is a file".to_owned(),
        io::ErrorKind::PermissionDenied => "it may not be read".to_owned(),
        _ => error.to_string(),
    }
}
