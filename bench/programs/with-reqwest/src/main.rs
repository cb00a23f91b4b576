use common::{CONNECT_TIMEOUT, FORM, GRANT, JSON, TIMEOUT, Task, bearer, body, check, run};
use reqwest::Certificate;
use reqwest::blocking::Client;

fn main() {
    let task = Task::from_env();
    let mut client = Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
    if let Some(pem) = &task.ca {
        client = client.tls_certs_only([Certificate::from_pem(pem).unwrap()]);
    }
    let client = client.build().unwrap();
    let token = client
        .post(&task.token_url)
        .header("authorization", &task.basic)
        .header("content-type", FORM)
        .header("accept", JSON)
        .body(GRANT)
        .send()
        .and_then(|answer| answer.bytes());
    let bearer = bearer(&token.unwrap());
    run(|| {
        let answer = client
            .patch(&task.update_url)
            .header("authorization", &bearer)
            .header("content-type", JSON)
            .header("accept", JSON)
            .body(body())
            .send()?;
        check(answer.status().as_u16(), &answer.bytes()?)
    });
}
