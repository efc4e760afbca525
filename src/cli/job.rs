//! Training as a job of the server: at the lowest priority, telling progress as JSON lines on standard output.

use indicatif::ProgressBar;

/// Ends this process when the one that started it is gone, whatever killed it: nobody would take up what it makes.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        // The parent holds the other end and writes nothing.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        eprintln!("waypost: the server that asked for this training is gone");
        std::process::exit(1);
    });
}

/// Lets every other process go first, so that serving does not feel the training.
pub fn lowest_priority() {
    #[cfg(unix)]
    if let Err(error) = rustix::process::nice(19) {
        tracing::warn!(%error, "the training runs at ordinary priority");
    }
}

/// A bar that is not drawn: the server reads how far the job is from these lines.
pub fn progress() -> ProgressBar {
    let bar = ProgressBar::hidden();
    let watched = bar.downgrade();
    std::thread::spawn(move || {
        while let Some(bar) = watched.upgrade() {
            println!("{}", serde_json::json!({"step": bar.message(), "done": bar.position(), "of": bar.length()}));
            drop(bar);
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
    });
    bar
}
