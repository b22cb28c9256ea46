//! Many worlds, one after the other: `cargo xtask sim`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use karpenter_sim::{Mutation, Options, Sim};
use serde_json::json;

/// Lines shown of a world that broke an invariant.
const LINES_SHOWN: usize = 60;

const HELP: &str = "Each world is made from its seed: workloads, rates of faults, what people and AWS do. After the hours of trouble everything \
is mended, must come right and to rest, and is taken down. The first broken invariant ends a world; its seed and the shortest log \
around it are printed, and the same seed gives the same log again.

  cargo xtask sim --seeds 200                            200 days of 300 nodes
  cargo xtask sim --seeds 60 --hours 2 --nodes 10 --pods 60   small worlds, about a second each
  cargo xtask sim --seeds 1 --from 22 --log              one world, every line
  cargo xtask sim --seeds 8 --mutation skippodbudgets    is a deliberate bug found?";

/// Let the controller live through simulated days, each with another seed, and judge what it does.
#[derive(Debug, Parser)]
#[command(after_help = HELP)]
struct Cli {
    /// How many worlds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Hours of trouble; repair and taking down come after them.
    #[arg(long, default_value_t = 24)]
    hours: i64,
    /// About so many nodes.
    #[arg(long, default_value_t = 300)]
    nodes: i64,
    /// About so many pods.
    #[arg(long, default_value_t = 3_000)]
    pods: i64,
    /// Worlds at once; as many as there are processors if absent.
    #[arg(long)]
    jobs: Option<usize>,
    /// One line of JSON a world.
    #[arg(long)]
    json: bool,
    /// Print the whole log of each world.
    #[arg(long)]
    log: bool,
    /// Go on after a broken invariant.
    #[arg(long)]
    keep_going: bool,
    /// A deliberate bug, by name.
    #[arg(long, value_parser = mutation)]
    mutation: Option<Mutation>,
}

fn mutation(name: &str) -> Result<Mutation, String> {
    let all = Mutation::ALL.iter().copied();
    all.clone().find(|known| format!("{known:?}").eq_ignore_ascii_case(name)).ok_or_else(|| {
        let known: Vec<String> = all.map(|one| format!("{one:?}")).collect();
        format!("found {name:?}, expected one of {}", known.join(", "))
    })
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let jobs = cli.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into)).max(1);
    let next = AtomicU64::new(cli.from);
    let (end, began) = (cli.from.saturating_add(cli.seeds), Instant::now());
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let stop = tally.lock().is_ok_and(|tally| tally.broken > 0 && !cli.keep_going);
                    if seed >= end || stop {
                        break;
                    }
                    let options = Options {
                        seed,
                        hours: cli.hours,
                        nodes: cli.nodes,
                        pods: cli.pods,
                        faults: None,
                        mutation: cli.mutation,
                    };
                    let lived = Instant::now();
                    let mut sim = Sim::new(options);
                    sim.run();
                    let took = lived.elapsed().as_secs_f64();
                    if let Ok(mut tally) = tally.lock() {
                        tally.tell(&cli, seed, &sim, took, began);
                    }
                }
            });
        }
    });
    let Ok(tally) = tally.into_inner() else { return ExitCode::FAILURE };
    let took = began.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(tally.done).unwrap_or(u32::MAX)) / took.max(0.001);
    eprintln!("{} seeds in {took:.1} s, {rate:.2} seeds/s, {} broken", tally.done, tally.broken);
    if tally.broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Debug, Default)]
struct Tally {
    done: u64,
    broken: u64,
}

impl Tally {
    fn tell(&mut self, cli: &Cli, seed: u64, sim: &Sim, took: f64, began: Instant) {
        self.done += 1;
        let (figures, broken) = (sim.figures(), sim.broken());
        if cli.log {
            sim.log().lines().for_each(|line| println!("{line}"));
        }
        if cli.json {
            let line = json!({
                "seed": seed, "seconds": took, "turns": figures.turns, "crashes": figures.crashes,
                "writes": figures.writes, "calls": figures.calls, "launches": figures.launches,
                "evictions": figures.evictions, "nodesMax": figures.nodes_max, "podsMax": figures.pods_max,
                "log": format!("{:016x}", sim.log().hash()),
                "broken": broken.map(|broken| json!({"invariant": broken.invariant.to_string(), "what": broken.what})),
            });
            println!("{line}");
        } else if self.done.is_multiple_of(10) || cli.seeds < 20 {
            let all = began.elapsed().as_secs_f64();
            eprintln!(
                "seed {seed}: {took:.2} s, {} turns, {} launches, {} evictions, {} crashes, {} nodes, {} pods at most; \
                 {} of {} in {all:.0} s",
                figures.turns,
                figures.launches,
                figures.evictions,
                figures.crashes,
                figures.nodes_max,
                figures.pods_max,
                self.done,
                cli.seeds
            );
        }
        let Some(broken) = broken else { return };
        self.broken += 1;
        if !cli.json {
            println!("seed {seed} broke {broken}");
            println!("  faults: {}", sim.faults());
            for line in sim.log().around(&broken.subjects, LINES_SHOWN) {
                println!("  {line}");
            }
        }
    }
}
