//! The `waypost` program. Everything is in the library; this only starts it.

fn main() -> std::process::ExitCode {
    waypost::cli::main()
}
