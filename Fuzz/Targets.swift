import Glibc
import KnockBase
import KnockProtocol
import KnockServer
import Netfilter

@testable import Programs

/// The code that reads input from strangers. Raw values are the names of the corpora.
private enum Target: String {
  case unsigned, signed, template, words, numbers, key, state, grants, messages, config, netlink,
    sets, stun,
    arguments, user, request, payload, answer, keytext, line
}

private let target: Target = {
  guard let name = getenv("FUZZ_TARGET"), let target = Target(rawValue: String(cString: name))
  else {
    fatalError("FUZZ_TARGET names no target")
  }
  return target
}()

@c(LLVMFuzzerTestOneInput)
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
  let input = UnsafeBufferPointer(start: start, count: count).span
  switch target {
  case .unsigned: fuzzGate(input, key: NoKey(isRight: false))
  case .signed: fuzzGate(input, key: NoKey(isRight: true))
  case .template: fuzzTemplate(input)
  case .words: fuzzWords(input)
  case .numbers: fuzzNumbers(input)
  case .key: fuzzKey(input)
  case .state: fuzzState(input)
  case .grants: fuzzGrants(input)
  case .messages: fuzzMessages(input)
  case .config: fuzzConfig(input)
  case .netlink: fuzzNetlink(input)
  case .sets: fuzzSets(input)
  case .stun: fuzzStun(input)
  case .arguments: fuzzArguments(input)
  case .user: fuzzUser(input)
  case .request: fuzzRequest(input, key: NoKey(isRight: false))
  case .payload: fuzzRequest(input, key: NoKey(isRight: true))
  case .answer: fuzzAnswer(input)
  case .keytext: fuzzKeyText(input)
  case .line: fuzzServerLine(input)
  }
  return 0
}

/// Stands in for HMAC-SHA256, which a fuzzer cannot guess. All MACs are right, or none is.
private struct NoKey: MACKey, MACKeys, ~Copyable {
  let isRight: Bool

  func verify(_ mac: Span<UInt8>, of message: Span<UInt8>) -> Bool { isRight }
  func mac(of message: Span<UInt8>) -> InlineArray<32, UInt8> { .init(repeating: 0) }
  var hasVersion1: Bool { true }
  func slot(verifying mac: Span<UInt8>, of message: Span<UInt8>) -> Int? { isRight ? 0 : nil }
  func id(in request: Span<UInt8>) -> UInt64? { Version2.id(in: request, by: self) }
  func open(_ request: Span<UInt8>, slot: Int) -> Version2.Payload? {
    Version2.Payload(opening: request, tagKey: self, maskKey: self)
  }
}

/// Calls the body with a table of one user. Their key of version 2 has an id of zeros, and is not only for that version.
private func withUser<Result>(
  _ policy: Policy, _ body: (consuming Users) -> Result
) -> Result {
  withMemory(MemoryLayout<User.Record>.stride) { users in
    withMemory(8) { names in
      withMemory(8) { keys in
        var users = Users(
          storage(users), names: PositionIndex(storage(names)), keys: PositionIndex(storage(keys)))
        _ = users.insert(.none, key: .none, version: 2, policy)
        return body(users)
      }
    }
  }
}

private func policy(
  families: AddressFamilies = AddressFamilies { _ in true }, allowsObservedSource: Bool
) -> Policy {
  Policy(
    inet: Policy.Place(set: 0, prefixLength: 32), inet6: Policy.Place(set: 0, prefixLength: 128),
    families: families, allowsObservedSource: allowsObservedSource)
}

private struct Bytes: TextSink {
  var bytes: [UInt8] = []

  mutating func append(byte: UInt8) { bytes.append(byte) }
}

/// Calls the body with zeroed memory, and frees it afterwards.
private func withMemory<Result>(_ size: Int, _ body: (UnsafeMutableRawBufferPointer) -> Result)
  -> Result
{
  let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
  memory.initializeMemory(as: UInt8.self, repeating: 0)
  defer { memory.deallocate() }
  return body(memory)
}

private func storage<Element>(
  _ memory: UnsafeMutableRawBufferPointer, at offset: Int = 0, bytes: Int? = nil
) -> Storage<Element> {
  let part = memory[offset..<offset + (bytes ?? memory.count - offset)]
  return Storage(
    adopting: UnsafeMutableRawBufferPointer(rebasing: part).bindMemory(to: Element.self))
}

/// Datagrams for one gate. Each follows a byte with its length.
private func fuzzGate(_ input: Span<UInt8>, key: consuming NoKey) {
  let isRight = key.isRight
  let capacity = 4
  withMemory(capacity * MemoryLayout<Fingerprint>.stride) { records in
    withMemory(PositionIndex.count(forRecords: capacity) * 4) { index in
      let policy = policy(families: AddressFamilies { $0 == .inet }, allowsObservedSource: true)
      withUser(policy) { users in
        var gate = Gate(
          keys: NoKey(isRight: isRight), users: users, drift: 60 * Microseconds.second,
          replays: replayMemory(records, index))
        var start = 0
        var now = 1_700_000_000 * Microseconds.second
        while start < input.count {
          let end = min(input.count, start + 1 + Int(input[start]))
          let datagram = input.extracting(start + 1..<end)
          start = end
          var text = Bytes()
          let path = InlineArray<48, UInt8>(repeating: 1)
          let verdict = gate.admit(datagram, at: Moment(wall: now, monotonic: now), hasRoom: true) {
            Origin(.inet6(high: 0x2001_0DB8 << 32, low: 1), reply: ReplyPath(path.span))
          }
          switch verdict {
          case .accepted(let order, _, let clockSkew):
            precondition(isRight && order.fingerprint.timeStamp == now + clockSkew)
            precondition(abs(clockSkew) <= 60 * Microseconds.second)
            precondition(order.refusal == nil && canPass(order))
            text.append(order.knock.address)
            now += 7 * Microseconds.second
          case .refused(let refusal, let header):
            precondition(isRight && header.length == datagram.count)
            if let order = header.order { precondition(order.refusal != nil && canPass(order)) }
            text.append(refusal.reason)
            text.append(signedSeconds: header.clockSkew ?? 0)
          case .unauthentic(let refusal):
            precondition(!isRight || !Version1.isSize(datagram.count))
            precondition(refusal != .badMAC || !isRight)
            text.append(refusal.reason)
          }
        }
      }
    }
  }
}

/// Whether the executor understands what the receiver sends.
private func canPass(_ order: Order) -> Bool {
  let message = PrivsepMessage.knock(order)
  return message.withBytes { PrivsepMessage($0, userSize: 1) == message }
}

private func fuzzTemplate(_ input: Span<UInt8>) {
  for address in [Address.inet(0xC000_0201), .inet6(high: 0x2001_0DB8 << 32, low: 1)] {
    for command in [Command.open, .close] {
      var text = Bytes()
      Template.expand(
        input, for: Knock(command: command, address: address), into: &text)
      precondition(text.bytes.count <= Template.longestExpansion(input))
    }
  }
}

private func fuzzWords(_ input: Span<UInt8>) {
  _ = ShellSyntax.first(in: input)
  var text = Bytes()
  do throws(WordError) {
    let count = try Words.split(input, into: &text)
    precondition(count <= text.bytes.count && text.bytes.count <= input.count + 1)
  } catch {}
}

/// The answer of a STUN server that knows the transaction of the request.
private func fuzzStun(_ input: Span<UInt8>) {
  if let endpoint = Endpoint(input) {
    precondition(!endpoint.host.isEmpty && endpoint.host.upperBound <= input.count)
  }
  let request = StunRequest(transaction: .init(repeating: 0))
  var answer = input.indices.map { input[$0] }
  if answer.count >= 20 {
    request.withBytes { for index in 4..<20 { answer[index] = $0[index] } }
    answer[2] = UInt8(truncatingIfNeeded: (answer.count - 20) >> 8)
    answer[3] = UInt8(truncatingIfNeeded: answer.count - 20)
  }
  for onlyInet in [true, false] {
    do throws(StunRequest.Failure) {
      let address = try request.address(in: answer.span, onlyInet: onlyInet)
      precondition(!onlyInet || address.family == .inet)
      precondition(address.refusal == nil)
    } catch { precondition(!error.reason.isEmpty) }
  }
}

private func fuzzNumbers(_ input: Span<UInt8>) {
  _ = Numbers.integer(input)
  if let seconds = Numbers.duration(input) { precondition(seconds > 0 && seconds <= 366 * 86_400) }
  var text = Bytes()
  if let value = Numbers.microseconds(ofSeconds: input) {
    precondition((1...Microseconds.longest).contains(value))
    // If Swift reads it too, the values may differ only by rounding.
    let bytes = input.indices.map { input[$0] }
    if let other = Double(String(decoding: bytes, as: UTF8.self)) {
      let expected = min(other * 1e6, 1e18)
      precondition((Double(value) - expected).magnitude <= 1 + expected * 1e-15)
    }
  }
  text.append(quoted: input)
}

/// A replay memory. Its only user may have all of it.
private func replayMemory(
  _ records: UnsafeMutableRawBufferPointer, _ index: UnsafeMutableRawBufferPointer
) -> ReplayMemory {
  ReplayMemory(
    records: storage(records), index: PositionIndex(storage(index)),
    shares: UserBuckets(storage(records, bytes: 0)))
}

private func fuzzKey(_ input: Span<UInt8>) {
  _ = KeyLineFault(of: input)
  var key = Bytes()
  let isKey = KeyText.encode(utf8: input, into: &key)
  let bytes = input.indices.map { input[$0] }
  let text = String(validating: bytes, as: UTF8.self)
  let isLatin1 = text?.unicodeScalars.allSatisfy { $0.value < 256 } ?? false
  precondition(isKey == isLatin1)
  if isKey, let text { precondition(key.bytes == text.unicodeScalars.map { UInt8($0.value) }) }
}

/// A request of version 2. The masks of `NoKey` are zeros, so what is inside stands at the end.
private func fuzzRequest(_ input: Span<UInt8>, key: borrowing NoKey) {
  guard input.count == Version2.requestSize else { return }
  let id = Version2.id(in: input, by: key)
  let payload = Version2.Payload(opening: input, tagKey: key, maskKey: key)
  precondition((payload != nil) == key.isRight)
  guard let payload else { return }
  precondition(payload.code == input[40] && payload.time >= 0)
  do throws(Refusal) {
    let request = try Version2.Request(payload)
    precondition(request.purpose == .open || request.seconds == 0)
    precondition(request.time == payload.time && request.address == payload.address)
    _ = request.address?.refusal
    let datagram = Datagram(request, id: id, tagKey: key, maskKey: key, idMaskKey: key)
    datagram.withBytes { bytes in
      precondition(bytes.count == input.count)
      for index in 32..<72 where !(48..<56).contains(index) || request.time < .max {
        precondition(bytes[index] == input[index])
      }
    }
  } catch {
    precondition(
      [.unknownCommand, .unknownFlag, .unknownDoor, .reservedByte, .secondsNotZero].contains(error))
  }
}

/// An answer of version 2 with a right tag.
private func fuzzAnswer(_ input: Span<UInt8>) {
  let key = NoKey(isRight: true)
  let tag = InlineArray<32, UInt8>(repeating: 1)
  let answer = Version2.Answer(opening: input, to: tag.span, tagKey: key, maskKey: key)
  precondition((answer != nil) == (input.count == Version2.answerSize))
  guard let answer else { return }
  Datagram(answer, to: tag.span, tagKey: key, maskKey: key).withBytes { bytes in
    precondition(bytes.count == input.count && bytes[32] == input[32])
    for index in 36..<64 where !(40..<48).contains(index) || answer.time < .max {
      precondition(bytes[index] == input[index])
    }
  }
}

/// A text that is a key of version 2 is the only one for its bytes.
private func fuzzKeyText(_ input: Span<UInt8>) {
  let isMeant = Version2.KeyBytes.isMeant(by: input)
  var key = Version2.KeyBytes()
  do throws(Version2.KeyTextFault) {
    try key.read(input)
    precondition(isMeant && input.count == Version2.keyTextSize)
    _ = key.isWhole(by: NoKey(isRight: true))
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    for place in 0..<70 {
      var digit = 0
      for bit in place * 6..<place * 6 + 6 {
        digit = digit << 1 | (bit < 416 ? Int(key.bytes[bit / 8] >> (7 - bit % 8) & 1) : 0)
      }
      precondition(input[4 + place] == digits[digit])
    }
  } catch { precondition(isMeant || error == .notAlone) }
}

/// A file of the replay memory. Its header is always valid, so that the rest is read.
private func fuzzState(_ input: Span<UInt8>) {
  let capacity = 8
  withMemory(ReplayFile.size(forRecords: capacity)) { file in
    withMemory(ReplayFile.size(forRecords: capacity)) { new in
      withMemory(capacity * MemoryLayout<Fingerprint>.stride) { records in
        withMemory(PositionIndex.count(forRecords: capacity) * 4) { index in
          withUser(policy(allowsObservedSource: false)) { users in
            let headerSize = FileHeader.pageSize
            let marks = 512..<1152
            for offset in 0..<min(input.count, file.count - headerSize + marks.count) {
              let place =
                offset < marks.count ? marks.lowerBound + offset : headerSize + offset - marks.count
              file[place] = input[offset]
            }
            if input.count % 2 == 0 { repairChecksums(of: file) }
            let page: Storage<UInt64> = storage(file, bytes: headerSize)
            _ = try? ReplayFile.capacity(of: page)
            var moment = Moment(
              wall: 1_700_000_000 * Microseconds.second, monotonic: 500 * Microseconds.second)
            let drift = 60 * Microseconds.second
            var replays = ReplayFile(
              page: storage(new, bytes: headerSize), records: storage(new, at: headerSize), boot: 1,
              drift: drift)
            let old: Storage<ReplayFile.Record> = storage(file, at: headerSize)
            let found = replays.restore(page, old, isWhole: true, at: moment)
            precondition(found.count <= capacity && found.fits)
            var memory = replayMemory(records, index)
            replays.fill(&memory, at: moment)
            precondition(memory.count == found.count)
            var gate = Gate(
              keys: NoKey(isRight: true), users: users, drift: drift, replays: memory)
            for number in UInt8(0)..<12 {
              var datagram = [UInt8](repeating: number, count: 49)
              datagram.replaceSubrange(32..<41, with: [1, 0, 0, 0, 0, 0xF1, 0x53, 0xD9, 0x41])
              datagram.replaceSubrange(41..<45, with: [2, 0, 0, 0])
              moment = Moment(
                wall: moment.wall + Microseconds.second,
                monotonic: moment.monotonic + Microseconds.second)
              let verdict = gate.admit(datagram.span, at: moment, hasRoom: true) {
                Origin(nil)
              }
              if case .accepted(let order, _, _) = verdict {
                replays.append(order.fingerprint, at: moment)
              }
            }
            replays.save(all: false, now: moment.monotonic) { bytes, offset in
              precondition(offset + bytes.byteCount <= file.count)
            }
          }
        }
      }
    }
  }
}

/// Makes the checksums of all marks and records valid, except of those that are all zero.
private func repairChecksums(of file: UnsafeMutableRawBufferPointer) {
  repairRecord(of: file, at: 512, numbers: 8)
  repairRecord(of: file, at: 1024, numbers: 8)
  for start in stride(from: FileHeader.pageSize, to: file.count, by: 56) {
    repairRecord(of: file, at: start, numbers: 6)
  }
}

private func repairRecord(of file: UnsafeMutableRawBufferPointer, at start: Int, numbers: Int) {
  var sum = Checksum()
  var isEmpty = true
  for number in 0..<numbers {
    let value = file.load(fromByteOffset: start + 8 * number, as: UInt64.self)
    isEmpty = isEmpty && value == 0
    sum.add(value)
  }
  let value = isEmpty ? 0 : sum.value
  file.storeBytes(of: value, toByteOffset: start + 8 * numbers, as: UInt64.self)
}

/// A byte of flags, the records of a journal of grants, and then a byte for each change of the grants. The
/// flags are: 1 keeps the checksums as they are, 2 is a wall clock that is not set, 4 has no names of sets, 8 lets a
/// hundred days pass with each change.
private func fuzzGrants(_ input: Span<UInt8>) {
  let capacity = 6
  guard input.count > 1 else { return }
  let recordSize = MemoryLayout<Grants.Record>.stride
  let size = (capacity + 1) * recordSize
  withMemory(2 * size) { records in
    let old = UnsafeMutableRawBufferPointer(rebasing: records[..<size])
    let new = UnsafeMutableRawBufferPointer(rebasing: records[size...])
    for offset in 0..<min(size, input.count - 1) { old[offset] = input[offset + 1] }
    if input[0] & 1 == 0 {
      for start in stride(from: 0, to: size, by: recordSize) {
        repairRecord(of: old, at: start, numbers: recordSize / 8 - 1)
      }
    }
    withMemory(2 * SetNames.size) { names in
      let oldNames = SetNames(storage(names, bytes: SetNames.size))
      if input[0] & 4 == 0 { _ = oldNames.number(of: [UInt8(ascii: "s")].span) }
      withMemory((capacity + 1) * MemoryLayout<Grants.State>.stride) { states in
        withMemory(8) { changed in
          withMemory(2 * (capacity + 1) * 4) { heap in
            withMemory(PositionIndex.count(forRecords: capacity + 1) * 4) { index in
              var grants = Grants(
                records: storage(new), changed: storage(changed),
                names: SetNames(storage(names, at: SetNames.size)), states: storage(states),
                heap: storage(heap, bytes: heap.count / 2), index: PositionIndex(storage(index)),
                areas: storage(heap, at: heap.count / 2), place: 1, secret: 7)
              let wallNow = input[0] & 2 == 0 ? 1_700_000_000 * Microseconds.second : .max
              let found = grants.adopt(
                storage(old), names: oldNames, wallNow: wallNow, now: 0)
              precondition(found.count >= grants.count && grants.count <= capacity)
              let step: Int64 = input[0] & 8 == 0 ? 0 : 100 * 86_400 * Microseconds.second
              for offset in min(input.count, 1 + size)..<input.count {
                change(
                  &grants, input[offset], wallNow: wallNow.addingSaturated(Int64(offset) * step),
                  now: Int64(offset) * 3 * Microseconds.millisecond)
                precondition(grants.count <= capacity)
                // A later server can read what this one has written.
                let written: Storage<Grants.Record> = storage(new)
                for place in 0...capacity {
                  precondition(written[place].isEmpty || written[place].grant != nil)
                }
                grants.save(all: offset & 7 == 0) { bytes, place in
                  precondition(place + bytes.byteCount <= Grants.fileSize(forGrants: capacity))
                } sync: {
                }
              }
              while let grant = grants.removeFirst() {
                precondition(grant.address.refusal == nil)
              }
              precondition(grants.count == 0 && grants.nextDeadline == nil)
            }
          }
        }
      }
    }
  }
}

/// The upper bits choose the address, the others what happens to its grants.
private func change(_ grants: inout Grants, _ byte: UInt8, wallNow: Int64, now: Int64) {
  let address = Address.inet(0xC000_0200 + UInt32(byte >> 4))
  let user = byte & 32 == 0 ? .none : UserName([UInt8(ascii: "a")].span) ?? .none
  let opening = Grants.Opening(
    user: user, key: .none, set: byte & 1 == 0 ? 8 : 0, prefixLength: byte & 2 == 0 ? 32 : 24,
    setDuration: byte & 4 == 0 ? nil : 5 * Microseconds.second,
    duration: byte & 1 == 0 ? nil : 4 * Microseconds.second, closesCommand: byte & 2 != 0,
    hasCloseCommand: true)
  switch byte & 15 {
  case 0...3:
    _ = try? grants.open(
      address, opening, isRepeat: byte & 16 != 0, isShared: byte & 64 != 0, wallNow: wallNow,
      now: now)
  case 4: _ = grants.endOpen(address, succeeded: true, isWantedAgain: false)
  case 5: _ = grants.endOpen(address, succeeded: false, isWantedAgain: byte & 16 != 0)
  case 6: _ = grants.beginClose(address, of: user, wallNow: wallNow)
  case 7: _ = grants.beginNextClose(wallNow: wallNow, now: now)
  case 8:
    while let (position, _) = grants.nextSet(of: address) {
      grants.recordSet(at: position, isClosed: byte & 16 == 0)
    }
    _ = grants.endSets(of: address, now: now)
  case 9: _ = grants.endClose(address, succeeded: true, now: now)
  case 10: _ = grants.endClose(address, succeeded: false, now: now)
  case 11 where byte & 16 == 0: grants.expireAll(now: now)
  case 11:
    grants.revise(keepsPlace: byte & 64 != 0, wallNow: wallNow, now: now) {
      $0.user == user ? .end(at: wallNow, isInPlace: byte & 32 == 0) : .close
    }
    while grants.shortenNext(now: now) != nil {}
  case 12: grants.recordUnchangedSet(address, opening, .unknown)
  case 13: grants.recordOnlyHost(address, opening)
  case 14:
    let range = AddressRange(address, prefixLength: 24)
    _ = grants.need(for: range, from: range.first, in: 8, near: address, onlySame: byte & 16 == 0)
  default:
    var limit = grants.checkCount
    if let (position, _) = grants.nextToCheck(limit: &limit) {
      grants.removeFromSet(at: position)
    }
  }
}

/// A message of a receiver that an attacker controls.
private func fuzzMessages(_ input: Span<UInt8>) {
  let userSize = 1000
  guard let message = PrivsepMessage(input, userSize: userSize) else { return }
  if case .knock(let order) = message {
    precondition(order.refusal != nil || order.knock.address.refusal == nil)
  }
  let isSame = message.withBytes { bytes in
    precondition(input.count == bytes.count + (message == .user ? userSize : 0))
    return bytes.indices.allSatisfy { bytes[$0] == input[$0] }
  }
  precondition(isSame)
}

/// A file of configuration, line by line.
private func fuzzConfig(_ input: Span<UInt8>) {
  var start = 0
  for index in 0...input.count where index == input.count || input[index] == 10 {
    let line = input.extracting(start..<index)
    start = index + 1
    do throws(ConfigLine.Failure) {
      let parsed = try ConfigLine(line)
      guard !parsed.value.isEmpty else {
        precondition(parsed.keyword.isEmpty)
        continue
      }
      precondition(parsed.keyword.upperBound <= parsed.value.lowerBound)
      let word = line.extracting(parsed.keyword)
      let keyword = Cases<ClientKeyword>.first { word.equalsIgnoringCase($0.name) }
      var value = parsed.value.map { CChar(bitPattern: line[$0]) } + [0]
      value.withUnsafeMutableBufferPointer { value in
        guard let start = value.baseAddress else { return }
        _ = keyword?.refusal(of: Argument(start))
        if keyword == .key { fuzzKeySetting(line.extracting(parsed.value)) }
        _ = [UInt8(ascii: "a")].span.matches(patterns: line.extracting(parsed.value))
      }
    } catch {}
  }
}

/// The value of Key in client.conf.
private func fuzzKeySetting(_ value: Span<UInt8>) {
  withMemory(Key.maximumSize + 1) { memory in
    do throws(KeyError) {
      let key = try Key(expanding: value, in: storage(memory))
      precondition(key.expanded.version == (value.contains("pk2.") ? 2 : 1))
    } catch {
      precondition(error != .outOfMemory)
    }
  }
}

/// A line for `client import`. What it takes, it writes as the same line, and as a section that says the same.
private func fuzzServerLine(_ input: Span<UInt8>) {
  do throws(ServerLine.Fault) {
    let server = try ServerLine(input)
    let user = input.extracting(server.user)
    let host = input.extracting(server.host)
    let key = input.extracting(server.key)
    withMemory(8192) { memory in
      var text = StorageText(storage(memory))
      text.appendLine(user: user, host: host, port: server.port, key: key)
      text.bytes.withElements(0..<text.count - 1) { written in
        do throws(ServerLine.Fault) {
          let again = try ServerLine(written)
          precondition(written.extracting(again.user).equals(user))
          precondition(written.extracting(again.host).equals(host))
          precondition(written.extracting(again.key).equals(key))
          precondition(again.port == server.port)
        } catch { fatalError("another line was written") }
      }
      var bytes = Version2.KeyBytes()
      guard (try? bytes.read(key)) != nil else { return }
      text.removeAll()
      text.appendSection(name: host, user: user, host: host, port: server.port, key: key)
      text.bytes.withElements(0..<text.count) { section in
        var start = 0
        var values: [[UInt8]] = []
        for index in section.indices where section[index] == 10 {
          let line = section.extracting(start..<index)
          start = index + 1
          guard let parsed = try? ConfigLine(line) else { fatalError("a malformed section") }
          if !parsed.value.isEmpty { values.append(parsed.value.map { line[$0] }) }
        }
        let expected = [host.indices.map { host[$0] }, key.indices.map { key[$0] }]
        precondition(values.count == 4 && [values[1], values[3]] == expected)
        precondition(values[0] == values[1])
      }
    }
  } catch {}
}

/// The file of a user.
private func fuzzUser(_ input: Span<UInt8>) {
  withMemory(UsersDirectory.fileLimit + 1) { text in
    withMemory(Key.maximumSize + 1) { key in
      withMemory(SetNames.size) { names in
        let bytes = input.indices.map { input[$0] }
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { return }
        write(ends[1], bytes, bytes.count)
        close(ends[1])
        var limits = UserLimits(ServerSettings())
        var line = 0
        do {
          let text = try TextFile(Descriptor(owning: ends[0]), into: storage(text))
          precondition(text.count == input.count)
          _ = try limits.read(text, keyBytes: storage(key), line: &line)
          var firewall: Firewall?
          // A set is not looked for, since there is no kernel to ask.
          if bytes.contains(UInt8(ascii: "/")) { return }
          try limits.complete(
            SetNames(storage(names)), opensByCommand: false, &firewall, line: &line)
          let policy = limits.policy
          precondition(policy.mayOpen || policy.mayClose)
          precondition(policy.duration > 0 && policy.expires >= 946_684_800_000_000)
        } catch {
          let lines = bytes.filter { $0 == 10 }.count + 1
          precondition(line >= 0 && line <= lines)
        }
      }
    }
  }
}

/// An answer of the kernel.
private func fuzzNetlink(_ input: Span<UInt8>) {
  withMemory(IntervalChange.capacity * MemoryLayout<Boundary>.stride) { boundaries in
    var change = IntervalChange(storage(boundaries))
    for family in [AddressFamily.inet, .inet6] {
      let address: Address = family == .inet ? .inet(0xC000_0201) : .inet6(high: 1, low: 1)
      change.begin(AddressRange(address, prefixLength: 24))
      try? input.visitMessages { _, _, _, attributes throws(MalformedReply) in
        _ = try? NftSetKind(attributes: attributes)
        _ = try? IPSetKind(attributes: attributes)
        _ = try? attributes.generation()
        _ = try? attributes.isOwnedTable()
        try attributes.visitBoundaries(of: family) { change.take($0) }
      }
      write(change, family)
    }
  }
}

/// Boundaries in any order, three bytes each: how far it is from the top address, and flags.
private func fuzzSets(_ input: Span<UInt8>) {
  guard input.count > 1 else { return }
  withMemory(IntervalChange.capacity * MemoryLayout<Boundary>.stride) { boundaries in
    var change = IntervalChange(storage(boundaries))
    let family: AddressFamily = input[0] & 1 == 0 ? .inet : .inet6
    let prefixLength = Int(input[1]) % (family.addressBits + 1)
    let address: Address = family == .inet ? .inet(.max - 300) : .inet6(high: .max, low: .max - 300)
    change.begin(AddressRange(address, prefixLength: prefixLength))
    var start = 2
    while start + 3 <= input.count {
      let near = UInt64(input[start]) << 8 | UInt64(input[start + 1])
      let top = AddressRange.greatest(of: family)
      let address = AddressNumber(high: top.high, low: top.low - near)
      change.take(
        Boundary(
          address: input[start + 2] & 2 == 0 ? address : AddressNumber(low: near),
          isEnd: input[start + 2] & 1 == 0,
          milliseconds: input[start + 2] & 4 == 0 ? SetElement.forever : UInt64(input[start + 2])))
      start += 3
    }
    write(change, family)
  }
}

private func write(_ change: borrowing IntervalChange, _ family: AddressFamily) {
  let text: StaticString = "s"
  let bytes = UnsafeBufferPointer(start: text.utf8Start, count: 1)
  guard let name = SetName(bytes.span, limit: SetName.nftLimit) else { return }
  let set = NftSet(table: NftTable(family: .inet, name: name), name: name, addresses: family)
  withMemory(65_536) { memory in
    var request = Request(storage(memory))
    for wish in [SetChange.open(milliseconds: 9), .close(sparingPermanent: true)] {
      _ = change.isAlreadyDone(wish)
      request.removeAll()
      request.transaction(generation: 1) { request in
        request.delete(from: set) { request in
          change.visitOverlaps { request.interval($0, in: set, timeout: nil) }
        }
        request.add(to: set) { request in
          change.visitReplacements(by: wish) { request.interval($0, in: set, timeout: 1) }
        }
      }
      precondition(request.bytes != nil)
    }
  }
}

/// A command line of the server or the client. A NUL separates the arguments.
private func fuzzArguments(_ input: Span<UInt8>) {
  var text = input.indices.map { CChar(bitPattern: input[$0]) }
  text.append(0)
  text.withUnsafeMutableBufferPointer { text in
    guard let start = text.baseAddress else { return }
    var pointers: [UnsafeMutablePointer<CChar>?] = [start]
    for index in text.indices.dropLast() where text[index] == 0 {
      pointers.append(start + index + 1)
    }
    let count = pointers.count
    pointers.withUnsafeMutableBufferPointer { pointers in
      let list = ArgumentList(pointers.baseAddress, count: count)
      parse(list, as: ServerSettings.self)
      parse(list, as: ClientSettings.self)
    }
  }
}

/// Writes the message into the line buffer, and empties that again.
private func show(_ misuse: Misuse) {
  _ = misuse.messageWithArguments
  Message.removeAll()
}

private func parse<Settings: AppletSettings>(_ list: ArgumentList, as _: Settings.Type) {
  var settings = Settings()
  var reader = ArgumentReader(list)
  var operands = Operands()
  var tokens = 0
  while let token = reader.next({ Settings.Option.spec($0) }) {
    tokens += 1
    switch token {
    case .operand(let operand): operands.append(operand)
    case .misuse(let misuse): show(misuse)
    case .option(let number, let value):
      do throws(Misuse) {
        if let option = Settings.Option(rawValue: number) { try settings.apply(option, value) }
      } catch { show(error) }
    }
  }
  // Each letter of a cluster of flags is an option.
  precondition(tokens <= 1 << 16)
  do throws(Misuse) { try settings.validate() } catch {}
}
