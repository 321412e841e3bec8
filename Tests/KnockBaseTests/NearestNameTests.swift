import Testing

@testable import KnockBase

@Suite struct NearestNameTests {
  private static let names: [Literal] = [
    "port", "nft", "no-shell", "state", "grant-prefix4", "key-file",
  ]

  private func nearest(to word: String, in names: [Literal]) -> String? {
    let bytes = Array(word.utf8)
    var nearest = NearestName()
    for name in names { nearest.consider(name, for: bytes.span) }
    return nearest.name.map { String(cString: $0.start) }
  }

  @Test(arguments: [
    // Exchanged, removed, added and replaced letters.
    ("prot", "port"), ("pot", "port"), ("ports", "port"), ("pord", "port"), ("ntf", "nft"),
    ("noshell", "no-shell"), ("no_shel", "no-shell"), ("stat", "state"),
    ("--port", "port"), ("port22", "port"), ("KeyFile", "key-file"), ("PROT", "port"),
    ("rgant-prefxi4", "grant-prefix4"),
    // The beginning of one name.
    ("key", "key-file"), ("g", "grant-prefix4"), ("no-", "no-shell"),
  ])
  func `a name with a few other letters is meant`(word: String, name: String) {
    #expect(nearest(to: word, in: Self.names) == name)
  }

  @Test(arguments: [
    "", "n", "host", "root", "nt-f", "-", "noshll-", "key-fi-le-s", "grant-prefix4444", "x", "üöä",
  ])
  func `no name is meant by too many other letters`(word: String) {
    #expect(nearest(to: word, in: Self.names) == nil)
  }

  @Test func `the nearest of several is meant, and the first of those that are as near`() {
    #expect(nearest(to: "closed", in: ["close-d", "closer", "close"]) == "close-d")
    #expect(nearest(to: "states", in: ["strates", "state"]) == "strates")
    #expect(nearest(to: "statex", in: ["stratey", "state"]) == "state")
    #expect(nearest(to: "st", in: ["state", "stun", "start"]) == nil)
  }
}
