// It has no connection pool, so every update uses a new connection.

use common::{FORM, GRANT, JSON, TIMEOUT, Task, bearer, body, check, run};

fn main() {
    let task = Task::from_env();
    let token = minreq::post(&task.token_url)
        .with_header("authorization", &task.basic)
        .with_header("content-type", FORM)
        .with_header("accept", JSON)
        .with_body(GRANT)
        .send();
    let bearer = bearer(token.unwrap().as_bytes());
    run(|| {
        let answer = minreq::patch(&task.update_url)
            .with_header("authorization", &bearer)
            .with_header("content-type", JSON)
            .with_header("accept", JSON)
            .with_body(body())
            .with_timeout(TIMEOUT.as_secs())
            .send()?;
        check(answer.status_code as u16, answer.as_bytes())
    });
}
