//! The way to the API server.

use std::time::Duration;

use anyhow::Context;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// TCP and TLS together.
const CONNECTED_WITHIN: Duration = Duration::from_secs(30);
/// A connection over which nothing comes is asked whether it still lives; the figures are client-go's.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_ANSWERED_WITHIN: Duration = Duration::from_secs(15);

/// Everything goes over one HTTP/2 connection, as it does in client-go: kube's own client, which speaks HTTP/1.1, opens
/// one for each request of a burst, and a handshake takes longer than the request.
pub(crate) fn client(config: Config) -> anyhow::Result<Client> {
    // Rare, and kube has what it takes.
    if config.proxy_url.is_some() || config.tls_server_name.is_some() {
        return Client::try_from(config).context("no way to the API server");
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let tls = config.rustls_client_config().context("the API server's certificate authority")?;
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions();
    let connector =
        ServiceBuilder::new().map_future(Box::pin).timeout(CONNECTED_WITHIN).service(connector.wrap_connector(tcp));
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_ANSWERED_WITHIN)
        .http2_keep_alive_while_idle(true)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().context("credentials for the API server")?)
        .layer(config.extra_headers_layer().context("headers for the API server")?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// The certificate authority by which this process knows the API server, in base64 of PEM, as nodes are told it.
pub(crate) fn authority(config: &Config) -> Option<String> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let certificates = config.root_cert.as_ref().filter(|all| !all.is_empty())?;
    let mut pem = String::new();
    for certificate in certificates {
        let text = STANDARD.encode(certificate);
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        // RFC 7468: lines of 64 characters.
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    Some(STANDARD.encode(pem))
}
