use didit::{Client, StatusUpdate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let id = common::SESSION.parse()?;
    let update = || {
        let update = StatusUpdate::declined().comment("Duplicated user");
        client.update_status(&id, &update).map(drop).unwrap_or_else(|error| panic!("{error}"));
    };
    common::run(update);
    Ok(())
}
