import Testing

@testable import KnockProtocol

private func fault(of text: String) -> KeyLineFault? { KeyLineFault(of: Array(text.utf8).span) }

@Suite struct KeyLineTests {
  @Test(
    arguments: [
      ("-----BEGIN OPENSSH PRIVATE KEY-----", .pem), ("-----BEGIN PGP MESSAGE-----", .pem),
      ("---- BEGIN SSH2 PUBLIC KEY ----", .pem), ("ssh-ed25519 AAAAC3Nz me@box", .sshKey),
      ("ssh-rsa AAAAB3Nz", .sshKey), ("ecdsa-sha2-nistp256 AAAAE2Vj", .sshKey),
      ("sk-ssh-ed25519@openssh.com AAAAGnNr", .sshKey), ("no-pty ssh-rsa AAAAB3Nz", .sshKey),
      ("box,192.0.2.1 ssh-ed25519 AAAAC3Nz", .sshKey), ("|1|ab=|cd= ssh-rsa AAAAB3Nz", .sshKey),
      ("PuTTY-User-Key-File-3: ssh-ed25519", .puttyKey), ("AGE-SECRET-KEY-1QQPQ", .ageKey),
      ("age1" + String(repeating: "q", count: 58), .ageKey), ("age-encryption.org/v1", .ageKey),
      ("# created: 2026-11-01T00:00:00Z", .comment), ("#!/bin/sh", .comment), (";x", .comment),
      ("// x", .comment), ("untrusted comment: minisign public key", .minisignKey),
      ("<?xml version='1.0'?>", .markup), ("---", .markup), ("{", .json), ("[Interface]", .section),
      ("table inet filter {", .firewallRules), ("flush ruleset", .firewallRules),
      ("*filter", .firewallRules), ("\u{FEFF}key", .byteOrderMark), (" key", .blanks),
      ("key\t", .blanks), ("key\r", .blanks), ("key\u{A0}", .blanks), ("\u{A0}key", .blanks),
      ("\"key\"", .quotes), ("'key'", .quotes), ("“key”", .quotes), ("key=abc", .name),
      ("KEY: abc", .name), ("export X=abc", .name), ("PrivateKey = abc=", .name),
      ("PYKNOCK_PSK=a", .name), ("passphrase:a", .name), ("-- a comment", .comment),
    ] as [(String, KeyLineFault)])
  func `what is no key`(line: String, expected: KeyLineFault) {
    #expect(fault(of: line) == expected)
  }

  @Test func `UTF-16 is told from its byte-order mark`() {
    for mark: [UInt8] in [[0xFF, 0xFE], [0xFE, 0xFF]] {
      #expect(KeyLineFault(of: (mark + [0x6B, 0]).span) == .byteOrderMark)
    }
  }

  @Test(arguments: [
    "", "k", "-k a long enough key", "correct horse battery staple", "ssh-ed25519", "ssh-x_Y-z",
    "a key of my own", "table salt", "age1" + String(repeating: "q", count: 39),
    "age1" + String(repeating: "Q", count: 58), "[", "q1w2=e3r4", "a=", "key==", "monkeykey=",
    "3q2+7w==", "it's so", "clé à l'été, ÿ",
  ])
  func `what may be a key`(line: String) {
    #expect(fault(of: line) == (line == "[" ? .section : nil))
  }

  @Test func `each key of keygen may be one`() {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    let ends = ["ssh-", "age1", "sk-ssh-", "key", "psk", "AGE-SECRET"]
    for start in ends + (0..<1000).map({ _ in String(alphabet.randomElement() ?? "x") }) {
      let rest = (start.count..<43).compactMap { _ in alphabet.randomElement() }
      guard !start.hasPrefix("-") else { continue }
      #expect(fault(of: start + String(rest)) == nil)
      #expect(fault(of: String(rest) + start) == nil || rest.starts(with: "----"))
    }
  }
}
