//! A team that splits its users by nginx's `split_clients` moves in without reshuffling them.

use super::*;
use crate::support::nginx::Nginx;

#[test]
fn the_nginx_hash_gives_the_arms_that_nginx_gives() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    for percent in ["10", "0.5", "33.33"] {
        let split = format!("split_clients \"${{arg_user}}orders\" $arm {{ {percent}% canary; * stable; }}");
        let nginx = Nginx::with_http(&split, "return 200 $arm;");
        let step = [(percent.parse().unwrap(), "1h")];
        let release = between(&stable, &canary).steps(&step).key("hash = \"nginx\"").key("salt = \"orders\"");
        let world = release.start();
        let (mut ours, mut theirs) = (world.connect(), crate::support::Connection::to(nginx.port).unwrap());
        let mut canaries = 0;
        for user in 0..300 {
            // Of every length, for the hash takes four bytes at a time.
            let user = format!("{user}{}", &"user-key"[..user % 9]);
            let expected = theirs.ask(&get(&format!("/?user={user}"))).unwrap().text();
            assert!(["canary", "stable"].contains(&expected.as_str()), "{expected}");
            assert_eq!(ours.ask(&by(&user, "/")).unwrap().server(), expected, "{user} at {percent} %");
            canaries += usize::from(expected == "canary");
        }
        println!("{percent} %: {canaries} of 300 on the canary, by both");
        assert!(percent == "0.5" || canaries > 10, "{canaries}");
    }
}
