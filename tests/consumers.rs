//! Readers in other languages: the programs of `examples/consumers` read a job's topics from a Kafka
//! broker, and must count what the right answer says, to the digest of all their measurements.
//!
//! Where Java, Maven or the Python packages cannot be had this says SKIPPED, and by what.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use visitflow::generate::{self, EndReason, Limits, Settings, Truth};
use visitflow::job::JobFile;
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::run::{self, Options, Summary};

/// A path of the repository.
fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn skipped(what: &str, output: &Output) {
    eprintln!("SKIPPED: {what}:");
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
}

/// A broker on loopback, which ends with this.
struct Broker {
    process: Child,
    dir: PathBuf,
    bootstrap: String,
}

impl Broker {
    /// Starts one; `None` where Kafka cannot be had.
    fn start(dir: PathBuf) -> Option<Broker> {
        let mut process = Command::new(root("scripts/kafka"))
            .args(["start", "--foreground", "--dir"])
            .arg(&dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address =
            |line: std::io::Result<String>| Some(line.ok()?.strip_prefix("bootstrap=")?.to_owned());
        if let Some(bootstrap) = lines.into_iter().find_map(address) {
            return Some(Broker {
                process,
                dir,
                bootstrap,
            });
        }
        let status = process.wait().unwrap();
        assert_eq!(status.code(), Some(3), "scripts/kafka start: {status}");
        None
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let mut kill = Command::new(root("scripts/kafka"));
        let _ = kill.args(["kill", "--dir"]).arg(&self.dir).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The Python with the packages of the example, if they can be had.
fn python() -> Option<Command> {
    let mut install = Command::new(root("scripts/python-readers"));
    let installed = install.arg(root("target/python")).output().unwrap();
    if !installed.status.success() {
        skipped(
            "visits are not counted in Python: its packages cannot be installed",
            &installed,
        );
        return None;
    }
    let mut command = Command::new(String::from_utf8(installed.stdout).unwrap().trim());
    command.arg(root("examples/consumers/python/count_visits.py"));
    Some(command)
}

/// The Java with the compiled example, if it can be had. It is compiled once for the same sources.
fn java() -> Option<Command> {
    let example = root("examples/consumers/java");
    let mut hash = DefaultHasher::new();
    for file in files(&example.join("src"), vec![example.join("pom.xml")]) {
        file.hash(&mut hash);
        fs::read(file).unwrap().hash(&mut hash);
    }
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let built = kept.join(format!("count-visits-{:016x}", hash.finish()));
    if !built.is_dir() {
        fs::create_dir_all(kept).unwrap();
        let new = tempfile::tempdir_in(kept).unwrap();
        let maven = |more: &[&str]| {
            let mut command = Command::new("mvn");
            command.args(["-B", "-q", "-Dstyle.color=never", "compile"]);
            command.arg("-f").arg(example.join("pom.xml")).args(more);
            command.arg(format!("-DbuildDirectory={}", new.path().display()));
            command.stdin(Stdio::null()).output()
        };
        // Without asking anybody, if all that it needs is here.
        let compiled = match maven(&["-o"]) {
            Ok(output) if !output.status.success() => maven(&[]),
            other => other,
        };
        match compiled {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(!said.contains("COMPILATION ERROR"), "{said}");
                skipped(
                    "visits are not counted in Java: Maven cannot build the example",
                    &output,
                );
                return None;
            }
            Err(error) => {
                eprintln!("SKIPPED: visits are not counted in Java: mvn: {error}");
                return None;
            }
        }
        // Another test may have been quicker.
        let _ = fs::rename(new.path(), &built);
    }
    let classpath = fs::read_to_string(built.join("classpath")).unwrap();
    let classes = built.join("classes");
    let mut command = Command::new(match std::env::var_os("JAVA_HOME") {
        Some(home) => Path::new(&home).join("bin/java"),
        None => "java".into(),
    });
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx384m"]);
    command.args(["-cp", &format!("{}:{classpath}", classes.display())]);
    command.arg("visits.CountVisits");
    Some(command)
}

/// The files under a folder and these, sorted.
fn files(folder: &Path, mut found: Vec<PathBuf>) -> Vec<PathBuf> {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found = files(&path, found);
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A made shop in the log at `dir/log`.
fn shop(dir: &Path, limits: Limits) -> Truth {
    let settings = Settings {
        events: 60_000,
        partitions: 4,
        limits,
        ..Settings::default()
    };
    let options = generate::Options {
        settings,
        truth: None,
        tags: false,
        schemas: Some(dir.join("log/schemas")),
    };
    let topic = Topic::create(dir.join("log"), "measurements", 4).unwrap();
    let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
    let truth = generate::generate(&options, &mut producer, &mut |_| ()).unwrap();
    producer.close().unwrap();
    truth
}

/// Runs the job `name` from the log at `dir/log` to Kafka.
fn run_job(dir: &Path, name: &str, limits: &Limits, bootstrap: &str) -> Summary {
    let file = dir.join("job.toml");
    let text = format!(
        "name = {name:?}\nworkers = 2\n\
         [source]\nlog = {log:?}\n\
         [visits]\nmax_size = {size}\nmax_length = \"{length}ms\"\nmax_delay = \"{delay}ms\"\n\
         [outputs]\nkafka = {bootstrap:?}\npartitions = 4\n\
         [state]\ndir = {state:?}\n\
         [profiles]\nenabled = true\nretention = \"3660d\"\n",
        log = dir.join("log"),
        state = dir.join("state"),
        size = limits.max_size,
        length = limits.max_length,
        delay = limits.max_delay,
    );
    fs::write(&file, text).unwrap();
    let job = JobFile::load_to_start(&file, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    run::run(Options::of(job.job), |_| ()).unwrap()
}

/// How many customers the topic `lifecycle` names in visits, by what the program shows of it, and of how
/// many of them something is known. Each is named once a visit, and none is missing.
fn named(dir: &Path, truth: &Truth) -> [usize; 2] {
    let mut show = Command::new(env!("CARGO_BIN_EXE_visitflow"));
    show.arg("show").arg(dir.join("job.toml"));
    let shown = show.args(["--topic", "lifecycle"]).output().unwrap();
    assert!(shown.status.success(), "{shown:?}");
    let (mut named, mut known) = (BTreeSet::new(), 0);
    for line in String::from_utf8(shown.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["schema"] == "visitflow.CustomerNamed" {
            let value = &line["value"];
            let text = |field: &str| value[field].as_str().unwrap().to_owned();
            let is_new = named.insert((text("visit_id"), text("customer_id")));
            assert!(is_new, "{line} is said twice");
            known += usize::from(!value["profile"].is_null());
        }
    }
    for visit in &truth.visits {
        if let Some(customer) = &visit.customer_id {
            let id = visit.visit_id.map(|byte| format!("{byte:02x}")).concat();
            let key = (id, customer.to_string());
            assert!(named.contains(&key), "{key:?} is not said");
        }
    }
    assert!(known > 0 && known < named.len(), "{known} of {named:?}");
    [named.len(), known]
}

/// The line that a program prints of a job.
fn counted(program: &mut Command, dir: &Path, name: &str, bootstrap: &str) -> Value {
    program.args(["--until-end", "--job", name, "--bootstrap", bootstrap]);
    program.arg("--schemas").arg(dir.join("state/schemas"));
    let output = program.stderr(Stdio::inherit()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{program:?}: {said}");
    serde_json::from_str(&said).unwrap()
}

#[test]
fn programs_in_other_languages_count_the_visits_of_a_job_in_kafka() {
    let dir = tempfile::tempdir().unwrap();
    let Some(broker) = Broker::start(dir.path().join("kafka")) else {
        eprintln!("SKIPPED: visits are not counted in Python and Java: Kafka cannot be had here");
        return;
    };
    // So small that visits are cut by size and by length, and revised often.
    let small = Limits {
        max_length: 2 * 3_600_000,
        max_size: 50,
        max_delay: 30_000,
        ..Limits::default()
    };
    for (name, limits) in [("shop", Limits::default()), ("small", small)] {
        let dir = dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        let truth = shop(&dir, limits);
        let summary = run_job(&dir, name, &limits, &broker.bootstrap);
        let [named, known] = named(&dir, &truth);
        let expected = json!({
            "begun": summary.visits[0],
            "revisions": summary.visits[1],
            "named": named,
            "known": known,
            "ended": {
                "inactivity": truth.ends(EndReason::Inactivity),
                "length": truth.ends(EndReason::Length),
                "size": truth.ends(EndReason::Size),
            },
            "open": 0,
            "measurements": truth.tagged,
            "digest": format!("{:032x}", truth.tags_sum),
        });
        for program in [python(), java()].iter_mut().flatten() {
            let counted = counted(program, &dir, name, &broker.bootstrap);
            assert_eq!(counted, expected, "{program:?}");
        }
        println!("{name}: {expected}");
    }
}
