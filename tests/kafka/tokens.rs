//! Kafka over TLS with tokens of a server (OAUTHBEARER). Wants a program that was built with `--features oauthbearer`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::tls::{PASSWORD, all_of_it, secured};

/// A server that gives everybody a token which nobody has signed; where it is asked.
fn tokens() -> String {
    // {"alg":"none"} and {"sub":"visitflow","iat":1700000000,"exp":4102444800}
    let token = "eyJhbGciOiJub25lIn0.\
                 eyJzdWIiOiJ2aXNpdGZsb3ciLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6NDEwMjQ0NDgwMH0.";
    let answer = format!("{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\"}}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // What is asked fits into one packet, and does not matter.
            let _ = stream.read(&mut [0; 8_192]);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{answer}",
                answer.len()
            );
        }
    });
    format!("http://{address}/token")
}

#[test]
fn records_are_written_and_read_with_tokens_that_a_server_gives() {
    let Some(secured) = secured() else { return };
    let mut connection = secured
        .by_password("")
        .with("sasl.mechanism", "OAUTHBEARER")
        .with("sasl.oauthbearer.method", "oidc")
        .with("sasl.oauthbearer.client.id", "visitflow")
        .with("sasl.oauthbearer.client.secret", PASSWORD)
        .with("sasl.oauthbearer.token.endpoint.url", tokens());
    for property in ["sasl.username", "sasl.password"] {
        connection.properties.remove(property);
    }
    all_of_it(&connection, "tokens");
    assert!(!format!("{connection} {connection:?}").contains(PASSWORD));
}
