//! Wiring: settings, clients, channels, tasks, shutdown. No logic.

use std::time::{Duration, Instant};

use anyhow::Context;
use karpenter_aws::Aws;
use karpenter_aws_wire::Wire;
use karpenter_driver::Machine;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::act::Executor;
use crate::drive::{Driver, Message};
use crate::serve::{Health, serve};
use crate::settings::Options;
use crate::telemetry::Telemetry;
use crate::{apiserver, observe, telemetry};

/// Events waiting for the driver; a full channel slows the watches down, nothing is lost.
const EVENTS_MAX: usize = 16_384;
/// How long actions under way may take to end after a stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn controller(options: &Options) -> anyhow::Result<()> {
    let began = Instant::now();
    // Settings are judged before anything is started.
    let settings = options.core()?;
    options.aws("")?;
    telemetry::log::init(&options.log_level, &options.log_output_paths)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(options, settings, began))
}

async fn run(options: &Options, settings: karpenter_core::Settings, began: Instant) -> anyhow::Result<()> {
    let mut config = kube::Config::infer().await.context("no way to the API server")?;
    // What failed is the World's to know and to try again: the client would ask a budget that blocks an eviction for
    // minutes, and nobody would hear of it.
    config.default_retry = false;
    let authority = apiserver::authority(&config);
    let client = apiserver::client(config)?;
    let wire = Wire::connect(env!("CARGO_PKG_VERSION")).await.context("no way to AWS")?;
    let mut aws = options.aws(wire.region())?;
    aws.cluster_ca = aws.cluster_ca.or(authority);
    if aws.zonal_shift {
        let enabled = wire.zonal_shift_is_enabled(&settings.cluster_name).await;
        enabled
            .context("--enable-zonal-shift (ENABLE_ZONAL_SHIFT): expected a cluster that ARC zonal shift manages")?;
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cluster = settings.cluster_name,
        region = wire.region(),
        "karpenter starts"
    );
    for gate in options.unknown_gates() {
        tracing::warn!(gate, "no feature gate has this name: it is ignored");
    }
    tracing::warn!("no lease is taken yet: run one replica only");
    let (messages, inbox) = mpsc::channel(EVENTS_MAX);
    let mut tasks = JoinSet::new();
    let (telemetry, registry) = Telemetry::start(&client, &mut tasks)?;
    let health = Health::since(began);
    serve(options, registry, health.clone(), &mut tasks).await?;
    observe::start(&client, &settings, &messages, &mut tasks);
    let executor = Executor::new(client, wire, messages.clone(), options.rate());
    let driver = Driver { machine: Machine::new(settings, Aws::new(aws)), executor, telemetry, health };
    let mut driver = tokio::spawn(driver.run(inbox));
    tokio::select! {
        asked = stopped() => asked?,
        // A controller without its loop must not look alive: the kubelet starts it anew.
        ended = &mut driver => anyhow::bail!("the driver ended by itself: {ended:?}"),
    }
    tracing::info!("stopping: no new actions, those under way may end");
    let _ = messages.send(Message::Stop).await;
    if tokio::time::timeout(STOP_WITHIN, &mut driver).await.is_err() {
        tracing::warn!(within = ?STOP_WITHIN, "actions still under way: the next start finds out what became of them");
    }
    tasks.abort_all();
    Ok(())
}

async fn stopped() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
