//! What the fuzz targets begin with, and what they have found before: given to them once more, without the fuzzer.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fuzz::TARGETS;

#[test]
fn what_fuzzing_begins_with_is_read_without_panic() -> Result<()> {
    let corpora = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus"));
    for (name, target) in TARGETS {
        let folder = corpora.join(name);
        let mut files = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        let count = files.try_fold(0, |count, file| {
            let file = file?.path();
            println!("{}", file.display());
            target(&fs::read(file)?);
            anyhow::Ok(count + 1)
        })?;
        ensure!(count >= 5, "{name} has a corpus of {count}");
    }
    Ok(())
}
