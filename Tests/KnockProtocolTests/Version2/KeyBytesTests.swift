import KnockProtocol
import TestSupport
import Testing

@Suite struct KeyBytesTests {
  /// The fault of a text, as the server finds it; nil if it is a key.
  private func fault(of text: [UInt8]) -> Version2.KeyTextFault? {
    do throws(Version2.KeyTextFault) {
      var key = Version2.KeyBytes()
      try key.read(text.span)
      let secret = Array(bytes(key.bytes)[Version2.KeyBytes.secret])
      return key.isWhole(by: TestKey(secret)) ? nil : .check
    } catch { return error }
  }

  private func isMeant(_ text: String) -> Bool {
    let text = Array(text.utf8)
    return Version2.KeyBytes.isMeant(by: text.span)
  }

  @Test func `the keys of the vectors are read, and all is derived from them`() throws {
    for vector in try Vectors.read().keys {
      let text = Array(vector.text.utf8)
      var key = Version2.KeyBytes()
      try key.read(text.span)
      #expect(Array(bytes(key.bytes)[..<48]) == bytes(vector.serverID) + bytes(vector.secret))
      #expect(fault(of: text) == nil)
      let secret = TestKey(bytes(vector.secret))
      #expect(Array(bytes(key.derive(.id, by: secret))[..<8]) == bytes(vector.id))
      #expect(key.id(by: secret).byteSwapped == UInt64(vector.id, radix: 16))
      #expect(bytes(key.derive(.tag, by: secret)) == bytes(vector.tag))
      #expect(bytes(key.derive(.mask, by: secret)) == bytes(vector.mask))
      #expect(bytes(key.derive(.answerTag, by: secret)) == bytes(vector.answerTag))
      #expect(bytes(key.derive(.answerMask, by: secret)) == bytes(vector.answerMask))
      let server = TestKey(bytes(vector.serverID))
      #expect(bytes(key.derive(.idMask, by: server)) == bytes(vector.idMask))
    }
  }

  @Test func `the texts of the vectors are refused for what is wrong with them`() throws {
    let faults: [String: Version2.KeyTextFault] = [
      "length": .length, "last bits": .lastBits, "check": .check, "alphabet": .alphabet,
      "case": .capitals, "blank": .notAlone, "byte-order mark": .notAlone, "quotes": .notAlone,
      "not a key of version 2": .notAlone,
    ]
    for vector in try Vectors.read().keyTexts {
      #expect(isMeant(vector.text))
      #expect(vector.result == "ok" || faults[vector.result] != nil)
      #expect(fault(of: Array(vector.text.utf8)) == faults[vector.result], "\(vector.text)")
    }
  }

  @Test(arguments: ["", "p", "pk2", "pk2AAAA", "pk3.", "PK1.pk-2.", "pk2,AAAA", "p k2."])
  func `a text without pk2. is not meant`(text: String) {
    #expect(!isMeant(text))
    #expect(fault(of: Array(text.utf8)) == .notAlone)
  }

  @Test(arguments: ["a pk2.", "Pk2.A", "pK2.", "\u{FEFF}PK2.x", "'pk2.'"])
  func `a text with pk2. in any case is meant, and is no key`(text: String) {
    #expect(isMeant(text))
    #expect(fault(of: Array(text.utf8)) != nil)
  }

  @Test func `any other character in a key is noticed, and so is a cut`() throws {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    for vector in try Vectors.read().keys {
      let text = Array(vector.text.utf8)
      for count in 4..<text.count { #expect(fault(of: Array(text[..<count])) == .length) }
      for index in text.indices {
        let wrong = (UInt8.min...UInt8.max).filter { byte in
          guard byte != text[index] else { return false }
          var other = text
          other[index] = byte
          let found = fault(of: other)
          guard index >= 4 else { return found != .notAlone && found != .capitals }
          guard let digit = digits.firstIndex(of: byte) else { return found != .alphabet }
          // 52 bytes are 416 bits, and 70 digits have four more.
          return found != (index == text.count - 1 && digit % 16 != 0 ? .lastBits : .check)
        }
        #expect(wrong.isEmpty, "at \(index)")
      }
    }
  }
}
