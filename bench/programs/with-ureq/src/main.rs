use common::{CONNECT_TIMEOUT, FORM, GRANT, JSON, TIMEOUT, Task, bearer, body, check, run};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider, parse_pem};

fn main() {
    let task = Task::from_env();
    let provider = if cfg!(feature = "rustls") {
        TlsProvider::Rustls
    } else {
        TlsProvider::NativeTls
    };
    let mut tls = TlsConfig::builder().provider(provider);
    if let Some(pem) = &task.ca {
        let certificates: Vec<_> = parse_pem(pem)
            .filter_map(|item| match item.unwrap() {
                ureq::tls::PemItem::Certificate(certificate) => Some(certificate),
                _ => None,
            })
            .collect();
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
    } else if cfg!(not(feature = "rustls")) {
        tls = tls.root_certs(RootCerts::PlatformVerifier);
    }
    let mut config = ureq::Agent::config_builder().tls_config(tls.build());
    if std::env::var_os("BENCH_LIMITS").is_some() {
        // The limits that didit sets. By default, ureq has none.
        config = config
            .timeout_global(Some(TIMEOUT))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT));
    }
    let agent = config.build().new_agent();
    let token = agent
        .post(&task.token_url)
        .header("authorization", &task.basic)
        .header("content-type", FORM)
        .header("accept", JSON)
        .send(GRANT)
        .and_then(|mut answer| answer.body_mut().read_to_vec());
    let bearer = bearer(&token.unwrap());
    run(|| {
        let mut answer = agent
            .patch(&task.update_url)
            .header("authorization", &bearer)
            .header("content-type", JSON)
            .header("accept", JSON)
            .send(&body()[..])?;
        check(answer.status().as_u16(), &answer.body_mut().read_to_vec()?)
    });
}
