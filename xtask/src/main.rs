//! The project's own tasks: `cargo xtask --help`.

mod bench;
mod demo;
mod dist;
mod lab;
mod licences;
mod project;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the build, the lab and the tests need
    Setup(setup::Arguments),
    /// Show the director at work: traffic, schedulers, a drain, IPv6, NAT
    Demo(demo::Arguments),
    /// A lab to play with: a client, a director and real servers in network namespaces
    Lab(lab::Arguments),
    /// Run the tests
    Test(test::Arguments),
    /// Measure how fast it is
    Bench(bench::Arguments),
    /// Check the house rules
    Tidy(tidy::Arguments),
    /// Make the Debian package, and an archive
    Dist(dist::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Setup(arguments) => setup::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Lab(arguments) => lab::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Tidy(arguments) => tidy::run(&arguments),
        Task::Dist(arguments) => dist::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
