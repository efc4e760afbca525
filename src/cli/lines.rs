//! Where commands read lines from and write them to: files, or the standard streams for `-`.

use crate::error::{Error, Result};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// Opens an input; `-` is standard input.
pub fn input(path: &Path) -> Result<Box<dyn BufRead>> {
    if is_dash(path) {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    Ok(Box::new(BufReader::new(std::fs::File::open(path).map_err(Error::io(path))?)))
}

/// An output; `-` is standard output. A file is written beside and renamed at the end: the output may be the input, and
/// half an output is none.
pub struct Output {
    path: PathBuf,
    part: Option<tempfile::NamedTempFile>,
}

impl Output {
    /// Opens it, with what its lines are written to.
    pub fn open(path: &Path) -> Result<(Self, Box<dyn Write>)> {
        let part = if is_stream(path) { None } else { Some(part(path)?) };
        let writer: Box<dyn Write> = match &part {
            Some(part) => Box::new(part.reopen().map_err(Error::io(path))?),
            None if is_dash(path) => Box::new(std::io::stdout().lock()),
            None => Box::new(std::fs::File::options().write(true).open(path).map_err(Error::io(path))?),
        };
        Ok((Output { path: path.into(), part }, writer))
    }

    /// All lines are written: it takes its name.
    pub fn finish(self) -> Result<()> {
        let Some(part) = self.part else { return Ok(()) };
        part.persist(&self.path).map_err(|error| Error::io(&self.path)(error.error))?;
        Ok(())
    }
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Standard output, a pipe or a device: what cannot be renamed onto.
fn is_stream(path: &Path) -> bool {
    is_dash(path) || std::fs::metadata(path).is_ok_and(|data| !data.is_file())
}

/// A file beside `path`, to be renamed onto it; readable by others, as an ordinary output is.
fn part(path: &Path) -> Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    builder.tempfile_in(folder).map_err(Error::io(folder))
}

/// Prints a result of many lines. Who has read enough of them (`| head`) has done nothing wrong.
pub fn print(text: &impl std::fmt::Display) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("(standard output)")(error)),
        _ => Ok(()),
    }
}

/// The same as JSON, for machines.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&serde_json::to_string_pretty(value).expect("results serialise"))
}
