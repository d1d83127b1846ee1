//! Topics: directories with a fixed number of partitions, described by a small file that is put
//! there once, whole or not at all. For whoever names a topic; what is in the partitions is the
//! writer's and the reader's.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::{LogError, MAX_PARTITIONS};

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    partitions: u32,
}

/// A topic that exists: a name, a directory and a number of partitions that never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    dir: PathBuf,
    name: String,
    partitions: u32,
}

impl Topic {
    /// Creates a topic in the log `dir` (which is created too), with `partitions` partitions from
    /// 1 to [`MAX_PARTITIONS`]. Exactly one of several that try at once succeeds.
    ///
    /// # Errors
    /// A bad name or number, a topic that is there already, or what the file system says.
    pub fn create(dir: impl AsRef<Path>, name: &str, partitions: u32) -> Result<Topic, LogError> {
        let dir = dir.as_ref();
        check_name(name)?;
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(LogError::Partitions {
                name: name.to_owned(),
                partitions,
            });
        }
        let topic = Topic {
            dir: dir.to_owned(),
            name: name.to_owned(),
            partitions,
        };
        let home = topic.path();
        let failed = |source| LogError::Io {
            doing: "create the topic",
            path: home.clone(),
            source,
        };
        fs::create_dir_all(&home).map_err(failed)?;
        // All of them before the topic is there, so that one that is missing later is a loss.
        for partition in 0..partitions {
            let dir = topic.partition_dir(partition)?;
            fs::create_dir_all(&dir).map_err(LogError::io("create the partition", &dir))?;
        }

        // Written beside and linked, since a link is never put over a file that is there.
        static DRAFTS: AtomicU64 = AtomicU64::new(0);
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let draft = home.join(format!(".topic.json.{}.{number}", std::process::id()));
        let description = Description {
            format: FORMAT,
            partitions,
        };
        let put = (|| {
            let mut file = File::create(&draft)?;
            serde_json::to_writer(&mut file, &description)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::hard_link(&draft, topic.description())
        })();
        // A draft that stays behind is in nobody's way.
        let _ = fs::remove_file(&draft);
        match put {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(LogError::TopicExists {
                    dir: dir.to_owned(),
                    name: name.to_owned(),
                });
            }
            Err(e) => return Err(failed(e)),
        }
        sync_dir(&home)?;
        sync_dir(dir)?;
        Ok(topic)
    }

    /// Opens a topic of the log `dir`.
    ///
    /// # Errors
    /// A bad name, no such topic (then it lists those which are there, the nearest name first),
    /// a description that does not read, a partition whose directory is missing.
    pub fn open(dir: impl AsRef<Path>, name: &str) -> Result<Topic, LogError> {
        let dir = dir.as_ref();
        check_name(name)?;
        let mut topic = Topic {
            dir: dir.to_owned(),
            name: name.to_owned(),
            partitions: 0,
        };
        let file = topic.description();
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(LogError::NoTopic {
                    dir: dir.to_owned(),
                    name: name.to_owned(),
                    there: what_is_there(dir, name),
                });
            }
            Err(e) => return Err(LogError::io("read the topic's description", &file)(e)),
        };
        let found = match serde_json::from_slice::<Description>(&text) {
            Ok(d) if d.format != FORMAT => format!("format {}", d.format),
            Ok(d) if !(1..=MAX_PARTITIONS).contains(&d.partitions) => {
                format!("{} partitions", d.partitions)
            }
            Ok(d) => {
                topic.partitions = d.partitions;
                for partition in 0..topic.partitions {
                    let dir = topic.partition_dir(partition)?;
                    if !dir.is_dir() {
                        let partitions = topic.partitions;
                        return Err(LogError::PartitionGone { dir, partitions });
                    }
                }
                return Ok(topic);
            }
            Err(e) => e.to_string(),
        };
        Err(LogError::TopicFile { file, found })
    }

    /// Opens a topic, and creates it before if it is not there. Any number may do so at once.
    ///
    /// # Errors
    /// As [`Topic::open`] and [`Topic::create`], and when the topic is there with another number
    /// of partitions.
    pub fn open_or_create(
        dir: impl AsRef<Path>,
        name: &str,
        partitions: u32,
    ) -> Result<Topic, LogError> {
        let dir = dir.as_ref();
        let there = match Topic::create(dir, name, partitions) {
            Err(LogError::TopicExists { .. }) => Topic::open(dir, name)?,
            other => return other,
        };
        if there.partitions != partitions {
            return Err(LogError::OtherPartitions {
                dir: dir.to_owned(),
                name: name.to_owned(),
                there: there.partitions,
                wanted: partitions,
            });
        }
        Ok(there)
    }

    /// The names of the topics in the log `dir`, sorted.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn list(dir: impl AsRef<Path>) -> Result<Vec<String>, LogError> {
        let dir = dir.as_ref();
        let failed = |source| LogError::Io {
            doing: "list the topics",
            path: dir.to_owned(),
            source,
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Ok(name) = entry.file_name().into_string()
                && check_name(&name).is_ok()
                && entry.path().join("topic.json").is_file()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of partitions, 1 or more.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The topic's own directory.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    fn description(&self) -> PathBuf {
        self.path().join("topic.json")
    }

    /// The directory of a partition that the topic has. It is there once it has had a writer.
    pub(super) fn partition_dir(&self, partition: u32) -> Result<PathBuf, LogError> {
        if partition >= self.partitions {
            return Err(LogError::NoPartition {
                topic: self.path(),
                partition,
                partitions: self.partitions,
            });
        }
        Ok(self.path().join(format!("{partition:05}")))
    }
}

fn check_name(name: &str) -> Result<(), LogError> {
    let fits = (1..=200).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && name != "."
        && name != "..";
    if fits {
        Ok(())
    } else {
        Err(LogError::TopicName {
            name: name.to_owned(),
        })
    }
}

fn what_is_there(dir: &Path, name: &str) -> String {
    if !dir.exists() {
        return "the directory itself does not exist".to_owned();
    }
    let mut names = match Topic::list(dir) {
        Ok(names) if names.is_empty() => return "it has no topics".to_owned(),
        Ok(names) => names,
        Err(e) => return e.to_string(),
    };
    names.sort_by_key(|there| strsim::damerau_levenshtein(there, name));
    let near = strsim::damerau_levenshtein(&names[0], name) <= (name.len() / 3).max(1);
    let list = names.join(", ");
    if near {
        format!("did you mean {:?}? It has {list}", names[0])
    } else {
        format!("it has {list}")
    }
}

/// Makes what was created in a directory last through a loss of power.
pub(super) fn sync_dir(dir: &Path) -> Result<(), LogError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(LogError::io("sync the directory", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_created_once_and_opened_by_anybody() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("deep/log");
        let made = Topic::create(&log, "tagged", 16).unwrap();
        assert_eq!(Topic::open(&log, "tagged").unwrap(), made);
        assert_eq!(made.partitions(), 16);
        let again = Topic::create(&log, "tagged", 8).unwrap_err();
        assert!(matches!(again, LogError::TopicExists { .. }), "{again}");
        assert_eq!(Topic::open_or_create(&log, "tagged", 16).unwrap(), made);
        let other = Topic::open_or_create(&log, "tagged", 8).unwrap_err();
        assert!(
            other.to_string().ends_with("has 16 partitions, expected 8"),
            "{other}"
        );
        // Nothing but the description and the partitions stays behind.
        let files: Vec<_> = fs::read_dir(made.path()).unwrap().collect();
        assert_eq!(files.len(), 1 + 16);
    }

    #[test]
    fn of_many_that_create_one_succeeds_and_all_agree() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path();
        let won: Vec<u32> = std::thread::scope(|scope| {
            let all: Vec<_> = (1..=8)
                .map(|n| scope.spawn(move || Topic::create(log, "t", n).ok().map(|_| n)))
                .collect();
            all.into_iter().filter_map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(won.len(), 1);
        assert_eq!(Topic::open(dir.path(), "t").unwrap().partitions(), won[0]);
    }

    #[test]
    fn a_missing_topic_names_those_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let error = |name| Topic::open(dir.path(), name).unwrap_err().to_string();
        assert!(error("x").ends_with("there is no topic \"x\" here; it has no topics"));
        for name in ["late", "lifecycle", "tagged"] {
            Topic::create(dir.path(), name, 1).unwrap();
        }
        assert!(
            error("taged").ends_with("did you mean \"tagged\"? It has tagged, late, lifecycle")
        );
        assert!(error("measurements").contains("it has "));
        assert!(error("taged").contains(&*dir.path().to_string_lossy()));
        let nowhere = Topic::open(dir.path().join("no"), "late").unwrap_err();
        assert!(
            nowhere
                .to_string()
                .ends_with("the directory itself does not exist")
        );
    }

    #[test]
    fn names_numbers_and_descriptions_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", ".", "..", "a/b", "é", "a b", &"x".repeat(201)] {
            assert!(matches!(
                Topic::create(dir.path(), name, 1),
                Err(LogError::TopicName { .. })
            ));
            assert!(matches!(
                Topic::open(dir.path(), name),
                Err(LogError::TopicName { .. })
            ));
        }
        for partitions in [0, MAX_PARTITIONS + 1] {
            assert!(matches!(
                Topic::create(dir.path(), "t", partitions),
                Err(LogError::Partitions { .. })
            ));
        }
        let topic = Topic::create(dir.path(), "t", 1).unwrap();
        for (text, found) in [
            ("", "EOF while parsing"),
            ("{\"format\": 2, \"partitions\": 1}", "format 2"),
            ("{\"format\": 1, \"partitions\": 0}", "0 partitions"),
            ("{\"format\": 1}", "missing field `partitions`"),
        ] {
            fs::write(topic.description(), text).unwrap();
            let error = Topic::open(dir.path(), "t").unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
            assert!(error.contains("topic.json"), "{error}");
        }
    }
}
