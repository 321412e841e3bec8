import Foundation
import KnockBase
import Testing

@testable import Programs

@Suite struct KeyTests {
  private static let good = String(repeating: "k", count: 16)

  /// A file with the text, in a directory that the system clears.
  private func file(_ text: [UInt8], mode: mode_t = 0o600) -> Argument {
    let path = argument("/tmp/pyknock-key-XXXXXX")
    let descriptor = mkstemp(path.pointer)
    write(descriptor, text, text.count)
    fchmod(descriptor, mode)
    close(descriptor)
    return path
  }

  /// The MAC of an empty message tells keys apart. Nil for an error.
  private func mac(of source: KeySource) throws(KeyError) -> [UInt8] {
    let mac = try Key(from: source).expanded.mac(of: [UInt8]().span)
    return mac.indices.map { mac[$0] }
  }

  private func mac(ofFile text: [UInt8], mode: mode_t = 0o600) throws(KeyError) -> [UInt8] {
    let path = file(text, mode: mode)
    defer { unlink(path.pointer) }
    return try mac(of: .file(path))
  }

  @Test(
    arguments: [
      // The first line, without its end.
      ("\(good)\n", good), ("\(good)\r\n", good), ("\(good)\n\n \t\r\n", good),
      ("\(good)\r", good), ("\(good) \(good)\n", "\(good) \(good)"),
      // UTF-8 becomes Latin-1.
      ("é\n", "é"), ("\u{FF}\n", "\u{FF}"),
    ] as [(String, String)])
  func `a file has the key in its first line`(text: String, key: String) throws {
    let expected = try mac(of: .operand(argument(key)))
    #expect(try mac(ofFile: Array(text.utf8)) == expected)
    #expect(try mac(ofFile: Array("x\(key.dropFirst())".utf8)) != expected)
  }

  @Test(
    arguments: [
      (Array("".utf8), .empty), (Array("\n".utf8), .empty), (Array("\r\n\n".utf8), .empty),
      (Array("k\0y\n".utf8), .holdsNUL), (Array("key\nmore".utf8), .secondLine),
      (Array("key\n\n\0".utf8), .secondLine), (Array(" key\n".utf8), .line(.blanks)),
      (Array("€\n".utf8), .notLatin1), (Array("\u{100}\n".utf8), .notLatin1),
      ([0xE9, 0x0A], .notLatin1), ([0xC3, 0x0A], .notLatin1),
    ] as [([UInt8], KeyError)])
  func `a file has no usable key`(text: [UInt8], expected: KeyError) {
    #expect(throws: expected) { try mac(ofFile: text) }
  }

  @Test(
    arguments: [
      (0o600, nil), (0o400, nil), (0o640, nil), (0o644, nil), (0o620, .writableByOthers),
      (0o602, .writableByOthers), (0o666, .writableByOthers),
    ] as [(mode_t, KeyError?)])
  func `nobody else may write to a key file`(mode: mode_t, expected: KeyError?) {
    let text = Array("\(Self.good)\n".utf8)
    if let expected {
      #expect(throws: expected) { try mac(ofFile: text, mode: mode) }
    } else {
      #expect(throws: Never.self) { try mac(ofFile: text, mode: mode) }
    }
  }

  @Test(
    arguments: [(0o600, false), (0o640, false), (0o604, true), (0o644, true)] as [(mode_t, Bool)])
  func `a key file that others may read is known`(mode: mode_t, expected: Bool) throws {
    let path = file(Array("\(Self.good)\n".utf8), mode: mode)
    defer { unlink(path.pointer) }
    let key = try Key(from: .file(path))
    #expect(key.isReadableByOthers == expected)
    #expect(key.isShort == false)
  }

  @Test(arguments: [("short", true), ("fifteen-bytes-k", true), ("sixteen-bytes-ke", false)])
  func `a short key is known`(text: String, expected: Bool) throws {
    let key = try Key(from: .operand(argument(text)))
    #expect(key.isShort == expected)
  }

  @Test func `a key has at most 4096 bytes`() throws {
    let longest = String(repeating: "é", count: Key.maximumSize)
    #expect(try mac(ofFile: Array("\(longest)\n".utf8)) == mac(of: .operand(argument(longest))))
    for end in ["k", "k\n", "kkk\n", longest] {
      #expect(throws: KeyError.tooLong) { try mac(ofFile: Array("\(longest)\(end)".utf8)) }
      #expect(throws: KeyError.tooLong) { try mac(of: .operand(argument("\(longest)\(end)"))) }
    }
  }

  @Test func `an operand is overwritten`() throws {
    let key = argument(Self.good)
    _ = try Key(from: .operand(key))
    #expect(string(key) == "")
  }

  @Test func `a missing file and a pipe that gives nothing are errors`() {
    #expect(throws: KeyError.notFound(.notFound)) { try mac(of: .file(argument("/nowhere/key"))) }
    var ends: [Int32] = [0, 0]
    pipe(&ends)
    defer { for end in ends { close(end) } }
    let path = argument("/proc/self/fd/\(ends[0])")
    let patience = 20 * Microseconds.millisecond
    #expect(throws: KeyError.timedOut(after: patience)) {
      _ = try Key(from: .file(path), within: patience).isShort
    }
  }
}
