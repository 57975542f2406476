use serde_json::Value;

/// A client for plain HTTP that trusts nothing kept from elsewhere.
#[must_use]
pub fn rest_client() -> reqwest::Client {
    // Every client of the process needs a provider, even for plain HTTP; the second call finds one installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// GET: status and JSON.
///
/// # Errors
/// Where nobody answers, or not in JSON.
pub async fn get(client: &reqwest::Client, url: &str) -> anyhow::Result<(u16, Value)> {
    read(client.get(url)).await
}

/// POST of JSON text: status and JSON.
///
/// # Errors
/// Where nobody answers, or not in JSON.
pub async fn post(client: &reqwest::Client, url: &str, body: String) -> anyhow::Result<(u16, Value)> {
    read(client.post(url).header("content-type", "application/json").body(body)).await
}

async fn read(request: reqwest::RequestBuilder) -> anyhow::Result<(u16, Value)> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    Ok((status, serde_json::from_slice(&response.bytes().await?)?))
}
