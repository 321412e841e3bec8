import KnockBase
import KnockProtocol
import TestSupport
import Testing

private let key = DerivedKey(serverID: Array(0..<16), secret: Array(100..<132))
private let tag = Array(UInt8(7)..<39)
private let answer = Version2.Answer(
  result: Version2.Answer.done, seconds: 3600, time: 1_764_103_971_123_456,
  address: address("192.0.2.7"))

@Suite struct AnswerTests {
  @Test func `the answers of the vectors are made and read`() throws {
    for vector in try Vectors.read().keys {
      let key = DerivedKey(vector)
      for good in vector.good {
        guard let expected = good.answer else { continue }
        let tag = Array(bytes(good.datagram).prefix(Version2.tagSize))
        let answer = Version2.Answer(
          result: expected.result, seconds: expected.seconds,
          time: try #require(Int64(expected.micros)), address: address(expected.address))
        #expect(key.seal(answer, to: tag) == bytes(expected.datagram))
        #expect(key.open(bytes(expected.datagram), to: tag) == answer)
      }
    }
  }

  @Test func `the answers of the vectors are taken or ignored`() throws {
    let vectors = try Vectors.read()
    let key = DerivedKey(try #require(vectors.keys.first))
    for vector in vectors.clientThatSentGood.answers {
      let read = key.open(bytes(vector.datagram), to: bytes(vectors.clientThatSentGood.tag))
      let result =
        switch read?.result {
        case nil: "ignored"
        case Version2.Answer.done: "done"
        case Version2.Answer.failed: "failed"
        case Version2.Answer.notAllowed: "not allowed"
        case Version2.Answer.noRoom: "no room"
        case let other?: "failed (\(other))"
        }
      #expect(result == vector.result, "\(vector.name)")
    }
  }

  @Test func `each flipped bit of an answer is noticed, and of the tag that it answers`() {
    let datagram = key.seal(answer, to: tag)
    #expect(key.open(datagram, to: tag) == answer)
    for bit in 0..<datagram.count * 8 {
      var other = datagram
      other[bit / 8] ^= 1 << (bit % 8)
      #expect(key.open(other, to: tag) == nil, "bit \(bit)")
    }
    for bit in 0..<tag.count * 8 {
      var other = tag
      other[bit / 8] ^= 1 << (bit % 8)
      #expect(key.open(datagram, to: other) == nil, "bit \(bit)")
    }
    for count in 0...100 where count != datagram.count {
      let other = (datagram + [UInt8](repeating: 0, count: 36)).prefix(count)
      #expect(key.open(Array(other), to: tag) == nil)
    }
  }

  @Test func `an answer of another key or another server is ignored`() {
    let others = [
      DerivedKey(serverID: Array(0..<16), secret: Array(101..<133)),
      DerivedKey(serverID: Array(1..<17), secret: Array(100..<132)),
    ]
    for other in others { #expect(key.open(other.seal(answer, to: tag), to: tag) == nil) }
  }

  @Test func `three bytes are ignored, and every other value is read`() throws {
    for result in UInt8.min...UInt8.max {
      let hidden = [result, 1, 2, 3, 4, 0, 0, 0x80] + [UInt8](repeating: 0xFF, count: 8)
      let inside = hidden + [UInt8](repeating: 0, count: 16)
      let outer = bytes(key.answerTag.mac(of: (tag + inside).span))
      let mask = bytes(key.answerMask.mac(of: outer.span))
      let datagram = outer + zip(inside, mask).map { $0 ^ $1 }
      #expect(
        key.open(datagram, to: tag)
          == Version2.Answer(result: result, seconds: 0x8000_0004, time: .max, address: nil))
    }
  }
}
