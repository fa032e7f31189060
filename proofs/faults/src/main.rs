//! `faults`: what a client of the router sees when providers fail, as a table; exit status 1 when a row is not as it must be.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use faults::{Plan, checks, report, row};

/// What a client of the router sees when providers fail. Nothing but 127.0.0.1 is used.
#[derive(Debug, Parser)]
#[command(name = "faults", version, about)]
struct Arguments {
    /// The breaker opens for one second and not for the shipped 30, ageing is 20 times as fast.
    #[arg(long)]
    short: bool,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
    /// Only rows and checks with this in their name.
    #[arg(long)]
    only: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The router by itself, from the environment: what is killed to see what it leaves behind.
    #[command(hide = true)]
    Serve {
        /// Folder with llm.toml.
        #[arg(long)]
        config_dir: PathBuf,
        /// Written with the address when it is open.
        #[arg(long)]
        ready_file: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let executor = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("no async runtime: {error}");
            return ExitCode::from(70);
        }
    };
    let ended = executor.block_on(async {
        match &arguments.command {
            Some(Command::Serve { config_dir, ready_file }) => {
                faults::stage::serve_here(config_dir, ready_file).await.map(|()| true)
            }
            None => prove(&arguments).await,
        }
    });
    executor.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::from(70)
        }
    }
}

async fn prove(arguments: &Arguments) -> Result<bool, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program has no path: {error}"))?;
    let plan = Plan { short: arguments.short, program, only: arguments.only.clone() };
    let rows = row::all(&plan, |row| {
        if !arguments.json {
            println!("{}", report::line(row));
        }
    });
    if !arguments.json {
        println!("{}", report::heading());
    }
    let rows = rows.await?;
    let lines = checks::all(&plan, |line| {
        if !arguments.json {
            println!("{}", report::check(line));
        }
    });
    if !arguments.json {
        println!();
    }
    let lines = lines.await;
    if arguments.json {
        println!("{:#}", report::json(&plan, &rows, &lines));
    } else {
        println!("{}", report::end(&rows, &lines));
    }
    Ok(report::is_good(&rows, &lines))
}
