//! Tests of authorities and of what they issue.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn own() -> (tempfile::TempDir, Place) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::DataDir(dir.path().join("data"));
    (dir, place)
}

fn first(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[test]
fn an_authority_is_made_once_and_kept_for_its_owner_alone() {
    let (dir, place) = own();
    let made = Authority::open(&place, TRUST_DOMAIN).unwrap();
    let again = Authority::open(&place, TRUST_DOMAIN).unwrap();
    assert_eq!(made.pem(), again.pem());
    let file = dir.path().join("data").join(FILE);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "drafts are gone");
    assert!(!made.pem().contains("PRIVATE"), "what others trust holds no key");
}

#[test]
fn a_member_is_named_by_its_certificate_which_ends() {
    let (_dir, place) = own();
    let authority = Authority::open(&place, "example.org").unwrap();
    let credential = authority.member("east", DAY).unwrap();
    let cert = first(&credential.cert);
    authority.verify(&cert).unwrap();
    assert_eq!(cluster_of(&cert, "example.org").as_deref(), Some("east"));
    assert_eq!(cluster_of(&cert, TRUST_DOMAIN), None);
    let left =
        ends_at(&cert).unwrap() - SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!((86_390..=86_400).contains(&left), "{left}");
    // The primary's certificate is none of a member's.
    let server = first(&authority.server().unwrap().cert);
    assert_eq!(authority.verify(&server).unwrap_err().to_string(), {
        let error = webpki::Error::RequiredEkuNotFoundContext(webpki::RequiredEkuNotFoundContext {
            required: KeyUsage::client_auth(),
            present: vec![vec![1, 3, 6, 1, 5, 5, 7, 3, 1]],
        });
        error.to_string()
    });
    let (_other_dir, other) = own();
    let other = Authority::open(&other, "example.org").unwrap();
    assert!(matches!(
        other.verify(&cert),
        Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey)
    ));
}

#[test]
fn an_authority_that_somebody_gives_issues_too_whatever_its_subject() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"])
        .args(["-subj", "/C=DE/O=Example Corp/OU=Plattform/CN=Zentrale CA für Cluster", "-utf8"])
        .args(["-addext", "keyUsage=critical,keyCertSign"])
        .arg("-keyout")
        .arg(path("ca.key"))
        .arg("-out")
        .arg(path("ca.crt"))
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let place = Place::Files { cert: path("ca.crt"), key: path("ca.key") };
    let authority = Authority::open(&place, TRUST_DOMAIN).unwrap();
    let credential = authority.member("east", DAY).unwrap();
    authority.verify(&first(&credential.cert)).unwrap();
    // The key of another.
    let (_dir, other) = own();
    let Place::DataDir(other) = other else { unreachable!() };
    make(&other, &other.join(FILE)).unwrap();
    let mixed = Place::Files { cert: path("ca.crt"), key: other.join(FILE) };
    let Err(error) = Authority::open(&mixed, TRUST_DOMAIN) else { panic!("taken") };
    assert!(error.to_string().contains("its own key"), "{error}");
    fs::write(path("ca.crt"), "nonsense").unwrap();
    let Err(error) = Authority::open(&place, TRUST_DOMAIN) else { panic!("taken") };
    assert!(error.to_string().contains("there is no certificate in PEM"), "{error}");
}
