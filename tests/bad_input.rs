//! What happens when something is wrong: every case of `docs/bad-input.md` is run as it stands there, and the user
//! must see what the page says; and whatever a signal or a full disk interrupts leaves behind what was committed.
//!
//! In the page, a line that begins with `$ ` is typed into a shell, in a folder that has `log` (2,000 made
//! measurements in 4 partitions), `job.toml` and `access.log`; the lines below it are all that is printed, where `…`
//! stands for anything. `[exit code N]` follows where it is not 0. With `BLESS=1` in the environment the page is
//! written anew from what is seen.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/bad-input.md");
const PROGRAM: &str = env!("CARGO_BIN_EXE_visitflow");

const JOB: &str = "[source]\nlog = 'log'\n[outputs]\nlog = 'results'\nfiles = 'tables'\n";
const ACCESS: &str = r#"192.0.2.7 - - [26/Jan/2019:19:45:25 +0330] "GET /shoes HTTP/1.1" 200 309 "-" "Mozilla/5.0"
192.0.2.7 - - [26/Jan/2019:19:45:26 +0330] "GET /cart HTTP/1.1" 200 309 "-" "Mozilla/5.0"
"#;

/// The folder that every case begins with, made once.
fn given() -> &'static Path {
    static GIVEN: OnceLock<tempfile::TempDir> = OnceLock::new();
    let given = GIVEN.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("job.toml"), JOB).unwrap();
        fs::write(dir.path().join("access.log"), ACCESS).unwrap();
        let made = [
            "generate",
            "--log",
            "log",
            "--events",
            "2000",
            "--partitions",
            "4",
        ];
        let made = visitflow(dir.path(), &made).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        dir
    });
    given.path()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A copy of [`given`].
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(given(), dir.path());
    dir
}

fn visitflow(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .current_dir(dir)
        .args(args)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null());
    command
}

/// A command as it is typed, and all that is printed then.
#[derive(Clone, Debug)]
struct Typed {
    command: String,
    printed: Vec<String>,
}

/// A section of the page.
#[derive(Debug)]
struct Case {
    title: String,
    typed: Vec<Typed>,
}

/// The cases of a chapter, or of all.
fn cases(page: &str, chapter: Option<&str>) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let (mut inside, mut here) = (false, chapter.is_none());
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside && here {
            let typed = &mut cases.last_mut().expect("a section has a title").typed;
            if let Some(command) = line.strip_prefix("$ ") {
                let (command, printed) = (command.to_owned(), Vec::new());
                typed.push(Typed { command, printed });
            } else {
                let last = typed.last_mut().expect("a block begins with a command");
                last.printed.push(line.to_owned());
            }
        } else if let Some(title) = line.strip_prefix("## ") {
            here = chapter.is_none_or(|chapter| chapter == title);
        } else if let (Some(title), true) = (line.strip_prefix("### "), here) {
            cases.push(Case {
                title: title.to_owned(),
                typed: Vec::new(),
            });
        }
    }
    cases
}

/// Whether `seen` is what `expected` says, in which `…` is anything.
fn matches(expected: &str, seen: &str) -> bool {
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = seen.strip_prefix(first) else {
        return false;
    };
    let Some(last) = expected
        .contains('…')
        .then(|| parts.next_back().unwrap_or(""))
    else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Lines that say how far something is come and go with the machine's speed.
fn is_progress(line: &str) -> bool {
    let begins_with_number = line.starts_with(|c: char| c.is_ascii_digit());
    begins_with_number && (line.contains("visits open; time") || line.ends_with(" made"))
}

/// What is printed when it is typed.
fn run(dir: &Path, command: &str) -> Vec<String> {
    let programs = Path::new(PROGRAM).parent().unwrap().display();
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{command}")])
        .current_dir(dir)
        .env(
            "PATH",
            format!("{programs}:{}", std::env::var("PATH").unwrap_or_default()),
        )
        .env("RUST_BACKTRACE", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    lines.retain(|line| !is_progress(line));
    match output.status.code() {
        Some(0) => (),
        Some(code) => lines.push(format!("[exit code {code}]")),
        None => lines.push(format!("[{}]", output.status)),
    }
    lines
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the cases of a chapter; says of each that is otherwise what was seen.
fn chapter(title: &str) {
    let page = fs::read_to_string(PAGE).unwrap();
    let cases = cases(&page, Some(title));
    assert!(!cases.is_empty(), "{PAGE} has no chapter {title:?}");
    let wrong = Mutex::new(Vec::new());
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) =
                    cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let dir = folder();
                    for typed in &case.typed {
                        let seen = run(dir.path(), &typed.command);
                        if !matches(&typed.printed.join("\n"), &seen.join("\n")) {
                            wrong
                                .lock()
                                .unwrap()
                                .push((case.title.clone(), typed.clone(), seen));
                        }
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    if std::env::var_os("BLESS").is_some() {
        bless(&wrong);
        return;
    }
    let report = |(title, typed, seen): &(String, Typed, Vec<String>)| {
        let (expected, seen) = (typed.printed.join("\n"), seen.join("\n"));
        format!(
            "### {title}\n$ {}\n{seen}\n--- expected:\n{expected}\n",
            typed.command
        )
    };
    let wrong: Vec<String> = wrong.iter().map(report).collect();
    assert!(
        wrong.is_empty(),
        "{} of {PAGE} are otherwise:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Writes into the page what was seen; one chapter at a time.
fn bless(wrong: &[(String, Typed, Vec<String>)]) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    let page = fs::read_to_string(PAGE).unwrap();
    let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
    for (title, typed, seen) in wrong.iter() {
        let place = |from: usize, line: String| {
            let at = lines[from..].iter().position(|l| *l == line);
            from + at.unwrap_or_else(|| panic!("{line:?} is no longer there")) + 1
        };
        let section = place(0, format!("### {title}"));
        let at = place(section, format!("$ {}", typed.command));
        lines.splice(at..at + typed.printed.len(), seen.iter().cloned());
    }
    fs::write(PAGE, lines.join("\n") + "\n").unwrap();
}

#[test]
fn command_lines() {
    chapter("Command lines");
}

#[test]
fn job_files() {
    chapter("Job files");
}

#[test]
fn schemas() {
    chapter("Schemas");
}

#[test]
fn enrichment() {
    chapter("Databases and lists");
}

#[test]
fn logs() {
    chapter("Logs");
}

#[test]
fn outputs() {
    chapter("Outputs");
}

#[test]
fn full_disks() {
    chapter("Full disks");
}

#[test]
fn imports() {
    chapter("Imports");
}

#[test]
fn salts() {
    chapter("Salts");
}

#[test]
fn looking() {
    chapter("show and why");
}

#[test]
fn watching() {
    chapter("status, stop and journal");
}

#[test]
fn processes() {
    chapter("Several processes");
}

#[test]
fn the_page_has_at_least_40_cases_each_of_which_shows_something() {
    let page = fs::read_to_string(PAGE).unwrap();
    let cases = cases(&page, None);
    assert!(cases.len() >= 40, "{}", cases.len());
    for case in &cases {
        let shows = |typed: &Typed| typed.printed.iter().any(|line| line.contains(' '));
        assert!(case.typed.iter().any(shows), "{}", case.title);
    }
}

// Signals.

/// The job, but that it waits for more.
fn following() -> String {
    JOB.replace("log = 'log'\n", "log = 'log'\nfollow = true\n")
}

/// Sends a signal, `INT` or `TERM`.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Waits for the end, for no longer than anyone would.
fn end(mut child: Child) -> Output {
    for _ in 0..2_400 {
        if child.try_wait().unwrap().is_some() {
            return child.wait_with_output().unwrap();
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    child.kill().unwrap();
    panic!(
        "it went on for a minute after a signal: {:?}",
        child.wait_with_output()
    );
}

/// Rows or records at a place, each of which can be read; 0 if there is no table or topic yet.
fn count(dir: &Path, place: &str) -> usize {
    let made = ["topic.json", "_delta_log/00000000000000000000.json"];
    if !made.iter().any(|file| dir.join(place).join(file).exists()) {
        return 0;
    }
    let output = visitflow(dir, &["show", place]).output().unwrap();
    assert!(output.status.success(), "{place}: {}", text(&output.stderr));
    output.stdout.iter().filter(|byte| **byte == b'\n').count()
}

/// A larger log, so that there are moments to interrupt.
fn large() -> &'static Path {
    static LARGE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let large = LARGE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let made = [
            "generate",
            "--log",
            "log",
            "--events",
            "60000",
            "--partitions",
            "4",
        ];
        assert!(
            visitflow(dir.path(), &made)
                .output()
                .unwrap()
                .status
                .success()
        );
        dir
    });
    large.path()
}

/// Starts it and interrupts it once so many bytes are there, wherever that finds it.
fn interrupted(mut command: Command, at: &Path, bytes: u64) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    while size(at) < bytes && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    if child.try_wait().unwrap().is_none() {
        // What a shell starts in the background ignores SIGINT until the program says otherwise.
        signal(&child, if bytes == 0 { "TERM" } else { "INT" });
    }
    end(child)
}

/// Bytes of all files below.
fn size(place: &Path) -> u64 {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}

#[test]
fn a_run_that_is_interrupted_has_committed_what_it_says() {
    for bytes in [0, 1, 100_000, 2_000_000, 9_000_000, 25_000_000] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("job.toml"), JOB).unwrap();
        std::os::unix::fs::symlink(large().join("log"), dir.path().join("log")).unwrap();
        let output = interrupted(
            visitflow(dir.path(), &["run", "job.toml"]),
            &dir.path().join("results"),
            bytes,
        );
        let (said, told) = (text(&output.stdout), text(&output.stderr));
        let visits = count(dir.path(), "tables/identified/visits");
        let tagged = count(dir.path(), "results/tagged");
        match output.status.code() {
            // A signal before anything was begun ends it as it ends any program.
            None => assert_eq!((visits, tagged), (0, 0), "{told}"),
            Some(0) => {
                let ended = number(&said, "begun, ", " ended");
                assert_eq!(visits, ended, "{said}{told}");
                assert_eq!(tagged, number(&said, "tagged ", " +"), "{said}{told}");
                // A signal that comes when everything is read already finds nothing to leave out.
                if said.contains("stopped before the end of the input") {
                    assert!(
                        told.contains("stopping: what is complete is being committed"),
                        "{told}"
                    );
                }
            }
            Some(code) => panic!("exit code {code}: {said}{told}"),
        }
    }
}

/// The number between two texts.
fn number(said: &str, before: &str, after: &str) -> usize {
    let rest = said
        .split_once(before)
        .unwrap_or_else(|| panic!("no {before:?} in {said}"))
        .1;
    let digits = rest
        .split_once(after)
        .unwrap_or_else(|| panic!("no {after:?} in {rest}"))
        .0;
    digits
        .replace(['_', ','], "")
        .parse()
        .unwrap_or_else(|_| panic!("{digits:?} is no number"))
}

#[test]
fn made_traffic_that_is_interrupted_says_how_much_there_is() {
    for bytes in [0, 100_000, 3_000_000, 20_000_000] {
        let dir = tempfile::tempdir().unwrap();
        let args = ["generate", "--log", "log", "--events", "50_000_000"];
        let output = interrupted(visitflow(dir.path(), &args), &dir.path().join("log"), bytes);
        let told = text(&output.stderr);
        match output.status.code() {
            None => assert_eq!(count(dir.path(), "log/measurements"), 0),
            Some(130) if told.contains("nothing was written") => {
                assert_eq!(count(dir.path(), "log/measurements"), 0)
            }
            Some(130) => {
                assert_eq!(
                    count(dir.path(), "log/measurements"),
                    number(&told, "stopped: ", " measurements are in log")
                );
                assert!(!dir.path().join("log/truth/truth.json").exists());
            }
            other => panic!("{other:?}: {told}"),
        }
    }
}

#[test]
fn an_import_that_is_interrupted_says_how_much_there_is() {
    let lines = 60_000;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("access.log"), ACCESS.repeat(lines / 2)).unwrap();
    for (run, bytes) in [0, 1, 2_000_000, 9_000_000].into_iter().enumerate() {
        let log = format!("log{run}");
        let topic = format!("{log}/measurements");
        let args = ["import", "combined", "access.log", "--log", &log];
        let output = interrupted(visitflow(dir.path(), &args), &dir.path().join(&log), bytes);
        let told = text(&output.stderr);
        match output.status.code() {
            None => assert_eq!(count(dir.path(), &topic), 0),
            Some(0) => assert_eq!(count(dir.path(), &topic), lines),
            Some(130) if told.contains("nothing was written") => {
                assert_eq!(count(dir.path(), &topic), 0)
            }
            Some(130) => {
                let said = format!(" measurements are in {log}");
                assert_eq!(count(dir.path(), &topic), number(&told, "stopped: ", &said));
            }
            other => panic!("{other:?}: {told}"),
        }
    }
}

#[test]
fn a_demo_that_is_interrupted_says_where_its_tables_are() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "demo",
        "--plain",
        "--dir",
        "shop",
        "--rate",
        "500",
        "--workers",
        "1",
    ];
    let mut demo = visitflow(dir.path(), &args);
    let mut child = demo
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    signal(&child, "INT");
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(end(child).status.success());
    let said = format!("{first}\n{}", rest.join("\n"));
    assert!(said.contains("tables: shop/tables/identified"), "{said}");
    let summary = said.rsplit("\nvisits: ").next().unwrap();
    assert_eq!(
        count(dir.path(), "shop/tables/identified/visits"),
        number(summary, "begun, ", " ended")
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("job.toml"), following()).unwrap();
    copy(&given().join("log"), &dir.path().join("log"));
    let mut run = visitflow(dir.path(), &["run", "job.toml"]);
    let mut child = run
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It hears signals once it has begun to say how far it is.
    let status = dir.path().join("results/.status/job-0.json");
    while !status.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, "INT");
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    let asked = told
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.starts_with("stopping"));
    // A signal before the handler was there ends it too, as one signal does.
    if asked && child.try_wait().unwrap().is_none() {
        let _ = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
    }
    let output = end(child);
    assert!(
        matches!(output.status.code(), None | Some(0 | 130)),
        "{output:?}"
    );
    count(dir.path(), "results/tagged");
    count(dir.path(), "tables/identified/visits");
}

#[test]
fn two_processes_end_together_when_one_is_gone() {
    let dir = folder();
    fs::write(dir.path().join("job.toml"), following()).unwrap();
    let free: Vec<_> = (0..2)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let hosts: Vec<String> = free
        .iter()
        .map(|l| l.local_addr().unwrap().to_string())
        .collect();
    drop(free);
    let hosts = hosts.join(",");
    let start = |process: &str| {
        let args = [
            "run",
            "job.toml",
            "--workers",
            "1",
            "--process",
            process,
            "--of",
            "2",
            "--hosts",
            &hosts,
        ];
        visitflow(dir.path(), &args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (first, mut second) = (start("0"), start("1"));
    let status = dir.path().join("results/.status/job-1.json");
    while !status.exists() && second.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    second.kill().unwrap();
    second.wait().unwrap();
    let output = end(first);
    let told = text(&output.stderr);
    assert!(!output.status.success(), "{told}");
    count(dir.path(), "results/tagged");
    count(dir.path(), "tables/identified/visits");
}
