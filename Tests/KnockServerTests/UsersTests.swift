import KnockBase
import KnockProtocol
import KnockServer
import TestSupport
import Testing

private func key(_ number: Int) -> KeyFingerprint {
  KeyFingerprint(of: TestKey(Array("key \(number)".utf8)))
}

private func isSkipped(_ text: String) -> Bool { UserName.isSkipped(Array(text.utf8).span) }

/// Adds a user with a key of that number. Returns the slot.
private func insert(_ name: String, _ number: Int, into users: inout Users) -> Int? {
  users.insert(name.isEmpty ? .none : userName(name), key: key(number), policy())
}

private func expect<Value: Equatable>(_ expected: Value, _ value: Value) {
  #expect(value == expected)
}

@Suite struct UserNameTests {
  @Test(arguments: ["a", "0", "alice", "a_b@c-d.e", String(repeating: "z", count: 32)])
  func `names of users`(text: String) {
    let name = userName(text)
    #expect(!name.isEmpty && name.count == text.utf8.count)
  }

  @Test(arguments: [
    "", "A", "_a", ".a", "-a", "@a", "a b", "a/b", "a\0", "é", String(repeating: "z", count: 33),
  ])
  func `other names`(text: String) { #expect(userName(text).isEmpty) }

  @Test(arguments: [
    "", ".", "..", ".alice", "#alice#", "alice~", "alice.swp", "alice.bak", "alice.orig",
    "alice.new", "alice.dpkg-old", "alice.ucf-dist", "alice.rpmsave", "alice-opkg",
    "alice.apk-new",
  ])
  func `files that are skipped`(text: String) {
    #expect(isSkipped(text))
  }

  @Test(arguments: ["alice", "a.b", "bak", "a.newer", "new", "alice.dpkg-x.y", "opkg"])
  func `files that are not skipped`(text: String) {
    #expect(!isSkipped(text))
  }
}

@Suite struct UsersTests {
  @Test func `users are found by name, key and number`() throws {
    var users = emptyUsers()
    for number in 0..<20 {
      expect(number, insert("user\(number)", number, into: &users))
    }
    for number in 0..<20 {
      let present = users[number]
      let user = try #require(present)
      #expect(user.slot == number && user.number != 0)
      #expect(users.slot(named: userName("user\(number)")) == number)
      #expect(users.slot(withKey: key(number)) == number)
      guard case .user(let found) = users.user(numbered: user.number) else {
        Issue.record("no user")
        continue
      }
      #expect(found.name == user.name)
    }
    #expect(users[20] == nil && users.slot(named: userName("user20")) == nil)
  }

  @Test func `a number is not used again`() throws {
    var users = emptyUsers(2)
    var last = UserNumber(0)
    for round in 0..<1000 {
      guard let slot = insert("alice", round, into: &users), let number = users[slot]?.number else {
        Issue.record("no room")
        return
      }
      #expect(number > last)
      if case .removed = users.user(numbered: last) {} else { #expect(last == 0) }
      if case .unknown = users.user(numbered: number + (1 << 14)) {} else { Issue.record() }
      users.remove(at: slot)
      if case .removed = users.user(numbered: number) {} else { Issue.record() }
      last = number
    }
  }

  @Test func `there is room for one user without a name on top`() {
    var users = emptyUsers(3)
    expect(0, insert("a", 1, into: &users))
    expect(1, insert("b", 2, into: &users))
    expect(nil, insert("c", 3, into: &users))
    expect(2, insert("", 4, into: &users))
    users.remove(at: 0)
    expect(0, insert("c", 3, into: &users))
    #expect(users.count == 3)
  }

  @Test func `users of version 2 are found by the id of their key`() throws {
    var users = emptyUsers()
    let other = KeyFingerprint(low: 5, high: 9)
    #expect(insert("old", 1, into: &users) == 0)
    #expect(users.insert(userName("a"), key: KeyFingerprint(low: 5, high: 8), policy()) == 1)
    #expect(users.slot(withID: 5) == nil && users.version1Count == 2)
    #expect(users.insert(userName("b"), key: other, version: 2, policy()) == 2)
    #expect(users.slot(withID: 5) == 2 && users.slot(withID: 6) == nil)
    #expect(users[2]?.version == 2 && users[1]?.version == 1 && users.version1Count == 2)
    #expect(users.firstOfVersion2(except: nil)?.slot == 2)
    #expect(users.firstOfVersion2(except: 2) == nil)
    users.remove(at: 2)
    #expect(users.slot(withID: 5) == nil && users.firstOfVersion2(except: nil) == nil)
    users.remove(at: 0)
    #expect(users.version1Count == 1 && users.forFork().version1Count == 1)
  }

  @Test func `the receiver follows the executor`() throws {
    var ours = emptyUsers()
    var theirs = emptyUsers()
    guard let slot = insert("alice", 1, into: &ours), let alice = ours[slot] else {
      Issue.record("no room")
      return
    }
    #expect(unsafe theirs.put(alice.bytes) == slot)
    #expect(theirs.count == 1 && theirs[slot]?.name == userName("alice"))
    // Another user in the same slot.
    ours.remove(at: slot)
    expect(slot, insert("bob", 2, into: &ours))
    guard let bob = ours[slot] else {
      Issue.record("nobody")
      return
    }
    #expect(unsafe theirs.put(bob.bytes) == slot)
    #expect(theirs.count == 1 && theirs.slot(named: userName("alice")) == nil)
    #expect(theirs.slot(withKey: key(2)) == slot)
  }
}
