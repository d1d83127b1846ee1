//! The crate of a user's own fragment, `examples/fragment`: it builds against this one, its tests
//! hold, and the guide shows its code as it is.

use std::path::Path;
use std::process::Command;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).unwrap()
}

/// The lines of a text without their indentation.
fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn the_guide_shows_the_example_as_it_is() {
    let parts = ["src/lib.rs", "src/main.rs", "tests/by_hand.rs"];
    let code = parts.map(|part| read(&format!("examples/fragment/{part}")));
    let guide = read("docs/fragments.md");
    let blocks = guide.split("```rust\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let mut shown = 0;
    for block in blocks {
        let block = lines(block);
        let is_there = |code: &String| lines(code).windows(block.len()).any(|part| part == block);
        assert!(
            code.iter().any(is_there),
            "not in the example:\n{}",
            block.join("\n")
        );
        shown += 1;
    }
    assert!(shown >= 6, "{shown} blocks");
}

/// With the target folder of this build, so that what both need is there.
#[test]
fn the_example_builds_and_its_tests_hold() {
    let deps = std::env::current_exe().unwrap();
    let target = deps.ancestors().nth(3).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["test", "--locked", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fragment/Cargo.toml"))
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
