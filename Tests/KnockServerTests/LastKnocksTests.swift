import KnockBase
import KnockProtocol
import TestSupport
import Testing

@testable import KnockServer

@Suite struct LastKnocksTests {
  private static let step = 64

  private func empty() -> LastKnocks {
    LastKnocks(
      header: storage(4, of: UInt64.self),
      records: storage(LastKnocks.capacity, of: LastKnocks.Record.self))
  }

  private func insert(_ text: String, to users: inout Users) -> User? {
    let key = KeyFingerprint(of: TestKey(Array("\(text)'s key".utf8)))
    return users.insert(userName(text), key: key, policy()).flatMap { users[$0] }
  }

  /// The file after all, or a part, was written to it.
  private func save(_ knocks: borrowing LastKnocks, all: Bool, to file: inout [UInt8]) {
    if all { file = [UInt8](repeating: 0, count: knocks.fileSize) }
    knocks.save(all: all) { bytes, offset in
      bytes.withUnsafeBytes { file.replaceSubrange(offset..<offset + $0.count, with: $0) }
    }
  }

  private func records(_ file: [UInt8]) -> Storage<LastKnocks.Record> {
    let part = file[FileHeader.pageSize...]
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: part.count, alignment: 16)
    copy.copyBytes(from: part)
    return Storage(adopting: copy.bindMemory(to: LastKnocks.Record.self))
  }

  @Test func `the format is that of each machine`() throws {
    var users = emptyUsers()
    let alice = try #require(insert("alice", to: &users))
    let bob = try #require(insert("bob", to: &users))
    let unnamed = try #require(insert("", to: &users))
    var knocks = empty()
    var file: [UInt8] = []
    knocks.record(
      LastKnock(time: 0x0102_0304_0506, source: .inet(0xC000_0201)), of: alice)
    save(knocks, all: true, to: &file)
    #expect(file.count == 4096 + 64 * 64)
    #expect(Array(file[0..<8]) == Array("pyknockU".utf8))
    #expect(file[16..<24].elementsEqual([64, 0, 0, 0, 0, 0, 0, 0]))
    knocks.record(
      LastKnock(time: 7, source: .inet6(high: 0x2001_0DB8_0000_0000, low: 1)), of: bob)
    save(knocks, all: false, to: &file)
    knocks.record(LastKnock(time: 8, source: nil), of: unnamed)
    save(knocks, all: false, to: &file)
    let name = Array("alice".utf8) + [UInt8](repeating: 0, count: 27)
    #expect(Array(file[4096..<4128]) == name)
    #expect(Array(file[4128..<4136]) == [6, 5, 4, 3, 2, 1, 0, 0])
    #expect(
      Array(file[4136..<4152]) == [UInt8](repeating: 0, count: 8) + [1, 2, 0, 192, 255, 255, 0, 0])
    let inet6: [UInt8] = [0, 0, 0, 0, 0xB8, 0x0D, 0x01, 0x20, 1, 0, 0, 0, 0, 0, 0, 0]
    #expect(Array(file[4200..<4216]) == inet6)
    #expect(
      Array(file[4224..<4280]) == [UInt8](repeating: 0, count: 32) + [8]
        + [UInt8](repeating: 0, count: 23))
    // The checksum is the last field.
    var sum = Checksum()
    for index in 0..<7 {
      sum.add(file[4096 + 8 * index..<4104 + 8 * index].span.littleEndian(at: 0, count: 8))
    }
    #expect(file[4152..<4160].span.littleEndian(at: 0, count: 8) == sum.value)
  }

  @Test func `names keep their record in other slots and the others are dropped`() throws {
    var users = emptyUsers()
    var knocks = empty()
    for (index, name) in ["alice", "bob", "", "carol"].enumerated() {
      let user = try #require(insert(name, to: &users))
      #expect(knocks.knock(of: user) == nil)
      knocks.record(LastKnock(time: Int64(index), source: .inet(0xC000_0201)), of: user)
      #expect(knocks.knock(of: user)?.time == Int64(index))
    }
    var file: [UInt8] = []
    save(knocks, all: true, to: &file)

    var others = emptyUsers()
    for name in ["dave", "carol", "", "alice"] { _ = insert(name, to: &others) }
    var next = empty()
    let isWhole = next.adopt(records(file), others)
    #expect(isWhole)
    let times = (0..<4).map { slot in others[slot].flatMap { next.knock(of: $0)?.time } }
    #expect(times == [nil, 3, 2, 0])
    #expect(others[1].flatMap { next.knock(of: $0)?.source } == .inet(0xC000_0201))
    save(next, all: true, to: &file)
    let written = records(file)
    #expect((0..<written.count).filter { !written[$0].isEmpty } == [1, 2, 3])
  }

  @Test func `the next user in a slot has no record of the last one`() throws {
    var users = emptyUsers()
    var knocks = empty()
    let alice = try #require(insert("alice", to: &users))
    knocks.record(LastKnock(time: 1, source: nil), of: alice)
    users.remove(at: alice.slot)
    let bob = try #require(insert("bob", to: &users))
    #expect(bob.slot == alice.slot && knocks.knock(of: bob) == nil)
    // alice comes again in another slot. Only a knock later than the old one counts.
    let again = try #require(insert("alice", to: &users))
    #expect(knocks.knock(of: again) == nil)
    for (time, last) in [(5, 5), (0, 1)] as [(Int64, Int64)] {
      knocks.record(LastKnock(time: time, source: nil), of: again)
      var file: [UInt8] = []
      save(knocks, all: true, to: &file)
      var next = empty()
      let isWhole = next.adopt(records(file), users)
      #expect(isWhole)
      #expect(next.knock(of: again)?.time == last)
    }
  }

  @Test func `who is removed has no record in the file`() throws {
    var users = emptyUsers()
    var knocks = empty()
    let alice = try #require(insert("alice", to: &users))
    let bob = try #require(insert("bob", to: &users))
    for user in [alice, bob] { knocks.record(LastKnock(time: 1, source: nil), of: user) }
    var file: [UInt8] = []
    save(knocks, all: true, to: &file)
    let results = [knocks.remove(at: alice.slot), knocks.remove(at: alice.slot)]
    #expect(results == [true, false])
    save(knocks, all: false, to: &file)
    #expect(knocks.knock(of: alice) == nil && knocks.knock(of: bob)?.time == 1)
    let written = records(file)
    #expect((0..<written.count).filter { !written[$0].isEmpty } == [bob.slot])
  }

  @Test func `the file grows by pages`() throws {
    var users = emptyUsers(256)
    var knocks = empty()
    for number in 0..<200 {
      let user = try #require(insert("user\(number)", to: &users))
      knocks.record(LastKnock(time: Int64(number), source: nil), of: user)
      let size = 4096 * (2 + number / 64)
      #expect(knocks.fileSize == size)
      var file: [UInt8] = []
      save(knocks, all: true, to: &file)
      let header = storage(4, of: UInt64.self)
      for index in 0..<4 {
        header[index] = file[8 * index..<8 * index + 8].span.littleEndian(at: 0, count: 8)
      }
      #expect(try LastKnocks.capacity(of: header) == (size - 4096) / 64)
    }
    #expect(LastKnocks.capacity >= Users.slotCount && LastKnocks.capacity % 64 == 0)
  }

  @Test func `each damaged record is dropped alone`() throws {
    var users = emptyUsers()
    let alice = try #require(insert("alice", to: &users))
    let bob = try #require(insert("bob", to: &users))
    var knocks = empty()
    knocks.record(LastKnock(time: 1, source: .inet(0xC000_0201)), of: alice)
    knocks.record(LastKnock(time: 2, source: nil), of: bob)
    var whole: [UInt8] = []
    save(knocks, all: true, to: &whole)
    for bit in 0..<64 * 8 {
      var file = whole
      file[4096 + bit / 8] ^= 1 << (bit % 8)
      var next = empty()
      let isWhole = next.adopt(records(file), users)
      #expect(!isWhole)
      #expect(next.knock(of: alice) == nil)
      #expect(next.knock(of: bob)?.time == 2)
    }
  }
}
