//! leeway-example TOKEN: is it valid? The key is in KEY.

mod leeway;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
}

fn main() -> std::process::ExitCode {
    let token = std::env::args().nth(1).expect("a token");
    let key = std::env::var("KEY").expect("KEY");
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_nbf = true;
    // The default is 60.
    validation.leeway = leeway::Leeway::new().recommended();
    match decode::<Claims>(&token, &DecodingKey::from_secret(key.as_bytes()), &validation) {
        Ok(token) => println!("accepted: {}", token.claims.sub),
        Err(error) => {
            println!("refused: {error}");
            return std::process::ExitCode::FAILURE;
        }
    }
    std::process::ExitCode::SUCCESS
}
