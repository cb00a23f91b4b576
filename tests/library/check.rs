//! `Client::check` validates an update without sending anything.

use didit::{ApiVersion, Client, Credentials, ErrorKind, Node, StatusUpdate, Verdict};

#[test]
fn check_validates_an_update_for_the_api_version_without_connecting() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let client = |version| {
        let builder = Client::builder(Credentials::api_key("key")).base_url(&url).proxy("");
        builder.api_version(version).build().unwrap()
    };
    let (v1, v3) = (client(ApiVersion::V1), client(ApiVersion::V3));
    let resubmitted = StatusUpdate::resubmitted([Node::new("feature_ocr_1", "OCR")]);

    v1.check(&StatusUpdate::declined().comment("Duplicated user")).unwrap();
    v3.check(&resubmitted).unwrap();
    let errors = [
        v1.check(&resubmitted),
        v1.check(&StatusUpdate::approved().email("a@b.example")),
        v3.check(&StatusUpdate::resubmitted([])),
    ];
    for error in errors {
        let error = error.unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::InvalidInput, Verdict::NotApplied)
        );
    }
    let connection = server.accept().unwrap_err();
    assert_eq!(connection.kind(), std::io::ErrorKind::WouldBlock);
}
