import Foundation
import KnockBase
import KnockProtocol
import KnockServer
import Testing

@testable import Programs

/// How a message becomes a line. Serialized: there is one line buffer, and one log that shows arguments or not.
@Suite(.serialized) struct LogTests {
  private static let knock = Knock(command: .open, address: .inet(0xC000_0201))
  private static let source = SocketAddress(numeric: argument("2001:db8::1"), port: 54321)

  /// The line of a message. Nothing is written to the log.
  private func line(
    _ message: @autoclosure () -> Message, _ severity: Severity = .info,
    _ change: (inout LogSettings) -> Void = { _ in }
  ) -> String {
    Message.removeAll()
    _ = message()
    var settings = LogSettings()
    settings.program = "pyknock server"
    settings.process = 17
    change(&settings)
    let whole = messageSubject.line(messageText, severity, settings)
    Message.removeAll()
    return whole.withBytes { bytes in
      String(decoding: bytes.indices.map { bytes[$0] }, as: UTF8.self)
    }
  }

  @Test(
    arguments: [
      (.error, .terminal, "pyknock server: it\n"), (.debug, .terminal, "pyknock server: it\n"),
      (.error, .journal, "<3>pyknock server: it\n"),
      (.warning, .journal, "<4>pyknock server: it\n"),
      (.info, .journal, "<6>pyknock server: it\n"), (.debug, .journal, "<7>pyknock server: it\n"),
      // The facility is daemon: 3 * 8 more.
      (.error, .syslog, "<27>pyknock-server[17]: it\n"),
      (.debug, .syslog, "<31>pyknock-server[17]: it\n"),
    ] as [(Severity, LogSettings.Reader, String)])
  func `each reader has its form of a line`(
    severity: Severity, reader: LogSettings.Reader, expected: String
  ) {
    #expect(line("it", severity) { $0.reader = reader } == expected)
  }

  @Test(
    arguments: [
      (.error, .terminal, "", "error"), (.warning, .journal, "<4>", "warning"),
      (.info, .syslog, "<30>pyknock-server[17]: ", "info"), (.debug, .terminal, "", "debug"),
    ] as [(Severity, LogSettings.Reader, String, String)])
  func `a line can be a JSON object`(
    severity: Severity, reader: LogSettings.Reader, start: String, level: String
  ) throws {
    let found = line("a \"quoted\" \\ it", severity) { ($0.reader, $0.isJSON) = (reader, true) }
    #expect(found.hasPrefix(start) && found.hasSuffix("}\n"))
    var fields = try object(found.dropFirst(start.count))
    let removed = fields.removeValue(forKey: "time")
    let time = try #require(removed)
    #expect(try abs(Date(time, strategy: .iso8601).timeIntervalSinceNow) < 60)
    #expect(fields == ["level": level, "message": "a \"quoted\" \\ it"])
  }

  private func object(_ text: some StringProtocol) throws -> [String: String] {
    try JSONDecoder().decode([String: String].self, from: Data(text.utf8))
  }

  @Test func `an object has the knock and the source as fields`() throws {
    let source = try #require(Self.source)
    let found = line("accepted \(Self.knock) from \(source: source)") { $0.isJSON = true }
    let fields = try object(found)
    #expect(fields["command"] == "open")
    #expect(fields["address"] == "192.0.2.1")
    #expect(fields["source"] == "[2001:db8::1]:54321")
    #expect(fields["message"] == "accepted open 192.0.2.1 from [2001:db8::1]:54321")
    // The next message has nothing of it.
    #expect(try object(line("it") { $0.isJSON = true }).count == 3)
  }

  @Test func `a message is one literal with its parts`() {
    let failed: Literal = "failed"
    #expect(
      line("\(failed): \(-7) of \(UInt64.max)") == "pyknock server: failed: -7 of \(UInt64.max)\n")
    #expect(line("\(Self.knock)") == "pyknock server: open 192.0.2.1\n")
    #expect(line("x: \(SystemError.notFound)") == "pyknock server: x: No such file or directory\n")
    #expect(
      line("\(OptionSpec.help.name) is \(true ? "on" : "off")")
        == "pyknock server: -h/--help is on\n")
  }

  @Test func `a long line is cut`() {
    let long = argument(String(repeating: "x", count: 200))
    func four() -> Message { "\(quoted: long)\(quoted: long)\(quoted: long)\(quoted: long)" }
    func message() -> Message { "\(four())\(four())" }
    for (isJSON, end) in [(false, "x\n"), (true, "x\"}\n")] {
      let found = line(message()) { $0.isJSON = isJSON }
      // An object has room for another escaped character.
      #expect(found.utf8.count == 1024 - (isJSON ? 1 : 0))
      #expect(found.hasSuffix(end))
    }
  }

  @Test(
    arguments: [
      ("plain", "'plain'"), ("it's", "'it\\x27s'"), ("a\nb\u{1B}", "'a\\x0ab\\x1b'"),
      ("é\\", "'\\xc3\\xa9\\x5c'"), ("", "''"),
      (String(repeating: "x", count: 129), "'" + String(repeating: "x", count: 128) + "...'"),
    ])
  func `untrusted text is quoted`(text: String, expected: String) {
    #expect(line("\(quoted: argument(text))") == "pyknock server: \(expected)\n")
  }

  @Test func `an argument is hidden if it may be the key`() {
    let value = argument("x")
    let hidden = "the value (not shown, it may be the key)"
    let misuse = Misuse.badValue(OptionSpec.keyFile.name, value, accepted: "a file")
    defer { log.showsArguments = false }
    for (isShown, expected) in [(false, hidden), (true, "'x'")] {
      log.showsArguments = isShown
      #expect(line("\(argument: value)") == "pyknock server: \(expected)\n")
      #expect(line("\(misuse)") == "pyknock server: -k/--key-file: \(expected) is not a file\n")
      // The file of a setting cannot be the key.
      #expect(
        line(misuse.messageWithArguments) == "pyknock server: -k/--key-file: 'x' is not a file\n")
      #expect(log.showsArguments == isShown)
    }
  }

  @Test func `a report names three users at most`() {
    var users = LimitedUsers()
    #expect(line("40\(users)") == "pyknock server: 40\n")
    func insert(_ name: String) { users.insert(UserName(Array(name.utf8).span) ?? .none) }
    insert("")
    #expect(line("40\(users)") == "pyknock server: 40\n")
    insert("alice")
    insert("alice")
    #expect(line("40\(users)") == "pyknock server: 40 (too many by alice)\n")
    insert("bob")
    insert("carol")
    insert("bob")
    let three = "pyknock server: 40 (too many by alice, bob, carol"
    #expect(line("40\(users)") == "\(three))\n")
    insert("dave")
    insert("erin")
    #expect(line("40\(users)") == "\(three) and others)\n")
  }
}
