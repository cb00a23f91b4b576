// It has no connection pool, so every update uses a new connection.

use attohttpc::Session;
use common::{CONNECT_TIMEOUT, FORM, GRANT, JSON, TIMEOUT, Task, bearer, body, check, run};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

fn main() {
    let task = Task::from_env();
    let mut session = Session::new();
    session.timeout(TIMEOUT);
    session.connect_timeout(CONNECT_TIMEOUT);
    if let Some(pem) = &task.ca {
        session.add_root_certificate(CertificateDer::from_pem_slice(pem).unwrap());
    }
    let token = session
        .post(&task.token_url)
        .header("authorization", task.basic.as_str())
        .header("content-type", FORM)
        .header("accept", JSON)
        .text(GRANT)
        .send()
        .and_then(|answer| answer.bytes());
    let bearer = bearer(&token.unwrap());
    run(|| {
        let answer = session
            .patch(&task.update_url)
            .header("authorization", bearer.as_str())
            .header("content-type", JSON)
            .header("accept", JSON)
            .bytes(body())
            .send()?;
        check(answer.status().as_u16(), &answer.bytes()?)
    });
}
