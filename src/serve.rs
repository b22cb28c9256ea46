//! Probes and /metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use karpenter_core::World;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::settings::Options;

/// What the readiness probe tells: nothing missing means ready.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    began: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    missing: Vec<String>,
    /// Steps of the start that were told: lists, catalogue.
    told: (bool, bool),
}

impl Health {
    /// Of a process that began then.
    pub(crate) fn since(began: Instant) -> Self {
        let state = State { missing: vec!["not started".to_owned()], told: (false, false) };
        Self { began, state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn update(&self, world: &World, catalogue: bool) {
        let unlisted = world.unlisted();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (unlisted.is_empty(), catalogue);
        if state.told != (true, true) {
            let after = self.began.elapsed().as_secs_f64();
            if now.0 && !state.told.0 {
                tracing::info!(after, "every watched kind was listed");
            }
            if now.1 && !state.told.1 {
                tracing::info!(after, "instance types are known");
            }
            if now == (true, true) {
                tracing::info!(after, "ready");
            }
            state.told = (state.told.0 || now.0, state.told.1 || now.1);
        }
        state.missing = unlisted.into_iter().map(|kind| format!("first list of {kind:?}")).collect();
        if !catalogue {
            state.missing.push("first list of instance types".to_owned());
        }
    }

    fn missing(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).missing.clone()
    }
}

/// Binds both ports before anything else starts, so that a taken port is told at once.
pub(crate) async fn serve(
    options: &Options,
    registry: Registry,
    health: Health,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let metrics = Router::new().route("/metrics", get(move || async move { metrics(&registry) }));
    let probes = Router::new().route("/healthz", get(|| async { "ok" })).route(
        "/readyz",
        get(move || async move {
            let missing = health.missing();
            if missing.is_empty() {
                (StatusCode::OK, "ok".to_owned())
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}", missing.join(", ")))
            }
        }),
    );
    for (name, port, router) in
        [("METRICS_PORT", options.metrics_port, metrics), ("HEALTH_PROBE_PORT", options.health_probe_port, probes)]
    {
        let listener =
            TcpListener::bind(("0.0.0.0", port)).await.with_context(|| format!("{name}: cannot listen on {port}"))?;
        tracing::info!(name, address = %listener.local_addr()?, "listening");
        tasks.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(name, %error, "server ended");
            }
        });
    }
    Ok(())
}

fn metrics(registry: &Registry) -> impl IntoResponse + use<> {
    let encoder = TextEncoder::new();
    let mut body = Vec::new();
    let status = match encoder.encode(&registry.gather(), &mut body) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, [(header::CONTENT_TYPE, encoder.format_type().to_owned())], body)
}
