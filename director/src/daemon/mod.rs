//! The daemon: the only wiring. It joins configuration, next hops, data plane and the operator's socket by channels, and
//! ends them in order.

mod changes;
mod core;
mod events;
mod flows;
mod handle;
mod health;
mod http;
mod inherited;
mod interfaces;
mod limits;
pub(crate) mod lock;
mod manager;
mod metrics;
mod notify;
mod pair;
mod probes;
mod probing;
mod problems;
mod rates;
mod refusals;
pub(crate) mod saved;
mod view;
mod watchers;
mod worker;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use director_ebpf::abi::ABI_VERSION;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

use self::core::{Core, Request, Setup};
use crate::api::server::{Director, Listener};
use crate::api::types::StopRequest;
use crate::config::{self, Failure};
use crate::dataplane::{self, Dataplane, FlowTable, MapErrors};
use crate::http as web;
use crate::model::Config;
use crate::neighbours;
use crate::pool::NextHops;
use crate::reconcile::{Observed, Units};
use crate::takeover;
use events::Events;
use handle::Handle;
use health::Health;
use inherited::{Inherited, Verdicts};
use lock::Lock;
use pair::Plan;
use saved::Saved;
use worker::Worker;

/// Threads for tasks; the data plane, and whatever blocks, have their own.
const THREADS: usize = 2;
/// Requests that may wait for the core.
const MOST_REQUESTS: usize = 64;
/// How long the answer to the request that ends the daemon may take to get out.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How long until a resolver of next hops that failed is tried again.
const RESOLVER_RETRY: Duration = Duration::from_secs(1);
/// How long it must go well after that to be taken for well.
const RESOLVER_WELL: Duration = Duration::from_secs(2);

/// How the daemon is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration's file.
    pub config: PathBuf,
    /// The directory for pins.
    pub pins: PathBuf,
    /// Which director of the configuration's cluster it is, unless it has its host's name.
    pub node: Option<String>,
    /// The operator's socket, in place of the configuration's: directors of a cluster share their file.
    pub socket: Option<PathBuf>,
}

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(Failure),
    /// The configuration's cluster has no director of this name.
    #[error("{0}")]
    Node(String),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// Runs the daemon until it is told to end. The data plane goes on without it, unless it is told otherwise.
///
/// # Errors
/// It could not start, or could not end as it was told to.
pub fn run(options: &Options) -> Result<(), Failed> {
    let mut loaded = config::load(&options.config).map_err(Failed::Config)?;
    for note in &loaded.notes {
        tracing::warn!("{}:{note}", options.config.display());
    }
    loaded.config.socket = options.socket.clone().unwrap_or(loaded.config.socket);
    if let Some(heartbeat) = &loaded.config.heartbeat {
        config::node_name(options.node.as_deref(), heartbeat).map_err(Failed::Node)?;
    }
    let plan = Plan::new(&loaded, options.node.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let result = runtime.block_on(live(options, loaded.config, plan));
    // A listing of flows that nobody reads any more must not hold up the end.
    runtime.shutdown_background();
    Ok(result?)
}

async fn live(options: &Options, config: Config, plan: Option<Plan>) -> Result<()> {
    let started = Instant::now();
    allow_many_files();
    let mut signals = Signals::new()?;
    let socket = config.socket.clone();
    if let Some(directory) = socket.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let _lock = Lock::for_socket(&socket)?;
    // Before anything there is touched: opening sweeps the flow table.
    let _pins_lock = Lock::for_pins(&Dataplane::directory(&options.pins)?)?;
    let _others_locks = locks_of_other_layouts(&options.pins)?;
    let worker =
        Worker::start(dataplane::Options { pins: options.pins.clone(), limits: config.limits }).await?;
    let opened = worker.ask(open_state).await??;
    if !limits::alike(&opened.units.limits, &config.limits) {
        tracing::warn!(
            "limits: the data plane keeps those it was made with ({:?}); `director stop --detach` makes way for new ones",
            opened.units.limits
        );
    }

    let mut tasks = JoinSet::new();
    let core = bring_up(options, (config, plan), &worker, &opened, &mut tasks).await?;
    let (handle, asked, mut stop) = {
        let seen = (opened.table, opened.map_errors);
        watch_over(options, (started, worker), seen, &core, &mut tasks)
    };
    let listener =
        Listener::bind(&socket).with_context(|| format!("cannot listen on {}", socket.display()))?;
    tasks.spawn(listener.serve(Arc::clone(&handle)));
    let mut core = tokio::spawn(core.run(asked));
    manager::ready();
    tasks.spawn(manager::attend(Arc::clone(&handle)));
    tracing::info!(milliseconds = started.elapsed().as_millis() as u64, socket = %socket.display(), "ready");

    let asked = tokio::select! {
        // The cause before what follows from it.
        biased;
        asked = signals.attend(&handle, &mut stop) => asked,
        // Better a new start than a daemon that looks alive.
        () = handle.worker.died() => bail!("the data plane's thread died; its program goes on forwarding"),
        ended = &mut core => bail!("the core task died: {:?}", ended.err()),
        thread = died(&handle) => bail!("the {thread} thread died: another director takes what this one held"),
        Some(ended) = tasks.join_next() => bail!("a task ended that never should: {ended:?}"),
    };
    manager::stopping();
    tokio::time::sleep(LAST_WORDS).await;
    // If the core is gone, waiting for it says why.
    let _ = handle.requests.send(Request::End).await;
    let core = core.await.context("the core task died")?;
    tasks.shutdown().await;
    end(core, &handle.worker, asked, &options.pins).await
}

/// Returns when a thread of the cluster's has died; never without a cluster.
async fn died(handle: &Handle) -> &'static str {
    match &handle.pair {
        Some(pair) => pair.died().await,
        None => std::future::pending().await,
    }
}

/// Nobody else may look after what this one replaces or removes.
fn locks_of_other_layouts(pins: &Path) -> Result<Vec<Lock>> {
    dataplane::other_layouts(pins).iter().map(|directory| Lock::for_pins(directory)).collect()
}

/// Each probe has a socket, and more may run at a time than the usual 1,024 files of a process.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Starts the core, and what it needs.
async fn bring_up(
    options: &Options,
    (config, plan): (Config, Option<Plan>),
    worker: &Worker,
    opened: &Opened,
    tasks: &mut JoinSet<()>,
) -> Result<Core> {
    let (wanted, wanted_seen) = watch::channel(Arc::default());
    let (avoid, avoid_seen) = watch::channel(Arc::default());
    let (known, hops) = watch::channel(Arc::<NextHops>::default());
    let (down, resolver) = watch::channel(None);
    tasks.spawn(resolve(wanted_seen, avoid_seen, known, down));
    let state_file = saved::state_file(&config.socket);
    let before = Verdicts::new(&opened.observed, &config);
    let (events, untold) = Events::new();
    let health = Arc::new(Health::new(Arc::new(events)));
    tasks.spawn(Arc::clone(&health).run());
    tasks.spawn(Arc::clone(&health).maintain());
    tasks.spawn(notify::run(untold, health.notify()));
    let setup = Setup {
        worker: worker.clone(),
        units: opened.units,
        succeeds_another_layout: opened.succeeds_another_layout,
        config_path: options.config.clone(),
        config,
        saved: Saved::load(&state_file)?,
        state_file,
        hops,
        wanted,
        avoid,
        resolver,
        health,
        before,
        node: options.node.clone(),
        socket: options.socket.clone(),
    };
    Core::start(setup, Inherited::new(Instant::now(), &opened.observed), plan).await
}

/// Starts the tasks that look at the data plane, and makes the handle that shows what they and the core see.
fn watch_over(
    options: &Options,
    (started, worker): (Instant, Worker),
    (table, map_errors): (Arc<FlowTable>, Arc<MapErrors>),
    core: &Core,
    tasks: &mut JoinSet<()>,
) -> (Arc<Handle>, mpsc::Receiver<Request>, mpsc::Receiver<StopRequest>) {
    let (measured, measured_seen) = watch::channel(Arc::default());
    let (swept, swept_seen) = watch::channel(Arc::default());
    let (requests, asked) = mpsc::channel(MOST_REQUESTS);
    let (stops, stop) = mpsc::channel(1);
    let config_path = std::path::absolute(&options.config).unwrap_or_else(|_| options.config.clone());
    let (http, http_wanted) = watch::channel(None);
    let (http_problem, http_problem_seen) = watch::channel(None);
    let view = core.view();
    tasks.spawn(http::follow(view.clone(), http));
    tasks.spawn(watchers::measure(worker.clone(), view.clone(), measured));
    tasks.spawn(watchers::sweep(worker.clone(), Arc::clone(&table), swept));
    let handle = Handle {
        config_path: config_path.display().to_string(),
        started,
        began: SystemTime::now() - started.elapsed(),
        worker,
        table,
        map_errors,
        view,
        health: core.health(),
        pair: core.pair(),
        measured: measured_seen,
        swept: swept_seen,
        http_problem: http_problem_seen,
        scrapes: Mutex::default(),
        requests,
        stops,
    };
    let handle = Arc::new(handle);
    tasks.spawn(web::serve(http_wanted, http_problem, Arc::clone(&handle)));
    (handle, asked, stop)
}

/// What has to be known of the data plane before anything else.
struct Opened {
    units: Units,
    table: Arc<FlowTable>,
    map_errors: Arc<MapErrors>,
    observed: Observed,
    succeeds_another_layout: bool,
}

fn open_state(dataplane: &mut Dataplane) -> Result<Opened, dataplane::Error> {
    let (units, table, map_errors) = (dataplane.units(), dataplane.flows(), dataplane.map_errors());
    let succeeds_another_layout = dataplane.succeeds_another_layout();
    Ok(Opened { units, table, map_errors, observed: dataplane.observe()?, succeeds_another_layout })
}

/// Keeps next hops known, whatever happens to those who look for them.
async fn resolve(
    wanted: neighbours::Addresses,
    avoid: neighbours::Addresses,
    known: watch::Sender<Arc<NextHops>>,
    down: watch::Sender<Option<String>>,
) {
    loop {
        let mut following = pin!(neighbours::run(wanted.clone(), avoid.clone(), known.clone()));
        let ended = match tokio::time::timeout(RESOLVER_WELL, &mut following).await {
            Ok(ended) => ended,
            Err(_) => {
                down.send_if_modified(|why| why.take().is_some());
                following.await
            }
        };
        let Err(error) = ended else { return };
        down.send_replace(Some(format!("next hops are not followed at the moment: {error:#}")));
        tokio::time::sleep(RESOLVER_RETRY).await;
    }
}

/// Leaves the data plane to itself, or takes it down.
async fn end(mut core: Core, worker: &Worker, asked: StopRequest, pins: &Path) -> Result<()> {
    // First of all: while others take what this one held, it forwards as ever.
    if let Err(error) = core.leave_cluster(asked.detach).await {
        tracing::error!("{error:#}");
    }
    if !asked.detach {
        worker.end().await;
        // By the log: standard output may be a pipe that nobody reads.
        tracing::info!(
            "ends; the data plane goes on forwarding: `director run` takes it over, `director stop --detach` takes it down"
        );
        return Ok(());
    }
    // Addresses first: a client is better told by the network that nobody is there than by this host's own stack.
    let released = core.release_vips().await;
    // What this process holds open would outlive its pins.
    let detached = core.detach().await;
    worker.end().await;
    drop(core);
    let pins = pins.to_owned();
    tokio::task::spawn_blocking(move || Dataplane::detach_all(&pins)).await??;
    detached?;
    tracing::info!("ends, and the data plane is detached");
    released
}

/// The process of the daemon that runs with a socket (or is about to), if there is one.
///
/// # Errors
/// Its lock file cannot be looked at.
pub fn process(socket: &Path) -> Result<Option<u32>> {
    lock::holder(socket)
}

/// What a daemon does at the end when it is told to detach, where no daemon runs any more. Says whether anything was there.
///
/// # Errors
/// A daemon does run, or something refuses to go.
pub fn detach_remains(socket: &Path, pins: &Path) -> Result<bool> {
    let directory = socket.parent().is_some_and(Path::is_dir);
    let _lock = directory.then(|| Lock::for_socket(socket)).transpose()?;
    let versioned = pins.join(format!("v{ABI_VERSION}"));
    let pins_lock = versioned.is_dir().then(|| Lock::for_pins(&versioned)).transpose()?;
    let others_locks = locks_of_other_layouts(pins)?;
    let state_file = saved::state_file(socket);
    let mut saved = Saved::load(&state_file)?;
    let found = pins_lock.is_some() || !others_locks.is_empty() || !saved.added().is_empty();
    if !saved.added().is_empty() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Also those on devices that only a cluster's director makes.
        runtime.block_on(takeover::clear(&saved.added()))?;
        saved.set_added(&[]);
        saved.store(&state_file)?;
    }
    Dataplane::detach_all(pins)?;
    Ok(found)
}

/// What the process is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Reloads at each SIGHUP; ends at SIGTERM, SIGINT or the operator's request.
    async fn attend(&mut self, handle: &Arc<Handle>, stop: &mut mpsc::Receiver<StopRequest>) -> StopRequest {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return StopRequest::default(),
                _ = self.interrupt.recv() => return StopRequest::default(),
                Some(asked) = stop.recv() => return asked,
                _ = self.hang_up.recv() => {
                    let handle = Arc::clone(handle);
                    // What comes of it is in the log.
                    tokio::spawn(async move { drop(handle.reload().await) });
                }
            }
        }
    }
}
