use common::{Outcome, run};
use didit::{Client, StatusUpdate};

fn main() -> Outcome {
    let client = Client::from_env()?;
    let id = common::SESSION.parse()?;
    run(|| {
        let update = StatusUpdate::declined().comment("Duplicated user");
        client.update_status(&id, &update)?;
        Ok(())
    });
    Ok(())
}
