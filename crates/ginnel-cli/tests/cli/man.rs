//! `ginnel man`: the manual page, and all pages.

use crate::process::Place;

#[test]
fn the_page_is_printed() {
    let done = Place::new().run(["man"], b"");
    assert_eq!(done.status, 0);
    assert!(done.out_text().contains(".TH ginnel 1"), "{}", done.out_text());
}

#[test]
fn all_pages_are_written() {
    let place = Place::new();
    std::fs::create_dir(place.path("man1")).unwrap();
    let done = place.run(["man", place.path("man1").to_str().unwrap()], b"");
    assert_eq!((done.status, done.err.as_str()), (0, ""));
    for page in ["ginnel.1", "ginnel-send.1", "ginnel-recv.1", "ginnel-tour.1", "ginnel-sem-run.1", "ginnel-doctor.1"] {
        let text = std::fs::read_to_string(place.path("man1").join(page)).unwrap();
        assert!(text.contains("SYNOPSIS"), "{page}");
    }
    assert_eq!(place.run(["man", "/no/such/directory"], b"").status, 3);
}
