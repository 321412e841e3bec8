import KnockBase
import KnockProtocol
import TestSupport
import Testing

@testable import KnockServer

@Suite struct BucketTests {
  /// A bucket that is counted in microseconds.
  private struct Model {
    let count: Int64
    let interval: Int64
    var earned: Int64
    var last: Int64 = 0

    init(_ count: Int64, _ interval: Int64) {
      (self.count, self.interval) = (count, interval)
      earned = count * interval
    }

    mutating func take(now: Int64) -> Bool {
      earned = min(earned + now - last, count * interval)
      last = now
      guard earned >= interval else { return false }
      earned -= interval
      return true
    }
  }

  @Test func `a bucket gives some at once and then one in each interval`() {
    let steps: [Int64] = [0, 1, 2, 5]
    for (count, interval) in [(1, 1), (1, 3), (2, 1), (2, 3), (3, 2), (4, 4)] as [(Int64, Int64)] {
      let limit = RateLimit(atOnce: count, interval: interval)
      // Each sequence of seven steps.
      for choice in 0..<1 << 14 {
        var bucket = Bucket()
        var model = Model(count, interval)
        var now: Int64 = 0
        for step in 0..<7 {
          now += steps[choice >> (2 * step) & 3]
          let holds = bucket.holds(limit, now: now)
          let isTaken = bucket.take(limit, now: now)
          #expect(holds == isTaken && isTaken == model.take(now: now))
        }
      }
    }
  }

  @Test func `a share of a time is rounded so that it is never more`() {
    for count in Int64(1)...12 {
      for time in Int64(1)...60 {
        let limit = RateLimit(count, within: time)
        func taken(until end: Int64) -> Int64 {
          var bucket = Bucket()
          var taken: Int64 = 0
          for now in 0...end { while bucket.take(limit, now: now) { taken += 1 } }
          return taken
        }
        #expect(taken(until: 0) == count)
        // In the time that one is remembered.
        #expect(taken(until: time - 1) < 2 * count)
        #expect(taken(until: 100 * (time + count)) >= 101 * count)
      }
    }
  }

  @Test func `the longest times do not overflow`() {
    let limit = RateLimit(1, within: 2 * Microseconds.longest)
    var bucket = Bucket()
    let now: Int64 = 1 << 60
    let results = [now, now + 2 * Microseconds.longest - 1, now + 2 * Microseconds.longest].map {
      bucket.take(limit, now: $0)
    }
    #expect(results == [true, false, true])
  }

  @Test func `each user has a bucket and the next one in the slot a full one`() {
    let buckets = UserBuckets(storage(8, of: UserBuckets.Element.self))
    let limit = RateLimit(atOnce: 1, interval: 100)
    let (alice, bob, next): (UserNumber, UserNumber, UserNumber) = (16384, 16385, 2 * 16384)
    func take(_ number: UserNumber) -> Bool { buckets[number].take(limit, now: 50) }
    let taken = [alice, alice, bob, bob, next, next].map(take)
    #expect(taken == [true, false, true, false, true, false])
  }
}

@Suite struct ReplayShareTests {
  private let drift = 60 * Microseconds.second
  private let start = 1_700_000_000 * Microseconds.second

  private func fingerprint(_ number: Int, at time: Int64) -> Fingerprint {
    Fingerprint(mac: (UInt64(number), 1, 2, 3), timeStamp: time)
  }

  private func number(of slot: Int, generation: UInt32 = 1) -> UserNumber {
    generation << 14 | UInt32(slot)
  }

  /// Why a knock is refused, whose time stamp is ahead by `skew`.
  private func refusal(
    _ knock: Int, of user: UserNumber?, at time: Int64, skew: Int64 = 0,
    _ memory: inout ReplayMemory
  ) -> Refusal? {
    do throws(Refusal) {
      let datagram = fingerprint(knock, at: start + time + skew)
      let moment = Moment(wall: start + time, monotonic: 1000 + time)
      try memory.check(datagram, at: moment, drift: drift)
      try memory.remember(datagram, of: user, at: moment, drift: drift)
      return nil
    } catch { return error }
  }

  @Test(arguments: [(1, 1), (7, 1), (8, 1), (15, 1), (16, 2), (100, 12), (4096, 512)])
  func `a user has an eighth of the memory and one at least`(capacity: Int, share: Int) {
    var memory = replayMemory(capacity)
    for knock in 0..<share { #expect(refusal(knock, of: number(of: 3), at: 0, &memory) == nil) }
    for knock in share..<share + 3 {
      #expect(refusal(knock, of: number(of: 3), at: 0, &memory) == .keyTooFast)
    }
    #expect(memory.count == share)
  }

  @Test func `the share refills in twice the drift`() {
    var memory = replayMemory(32)
    let alice = number(of: 0)
    for knock in 0..<4 { #expect(refusal(knock, of: alice, at: 0, &memory) == nil) }
    #expect(refusal(4, of: alice, at: drift / 2 - 1, &memory) == .keyTooFast)
    #expect(refusal(4, of: alice, at: drift / 2, &memory) == nil)
    #expect(refusal(5, of: alice, at: drift / 2, &memory) == .keyTooFast)
    for knock in 5..<9 { #expect(refusal(knock, of: alice, at: 5 * drift, &memory) == nil) }
    #expect(refusal(9, of: alice, at: 5 * drift, &memory) == .keyTooFast)
  }

  @Test func `a user alone has all of the memory`() {
    var memory = replayMemory(16)
    for knock in 0..<16 { #expect(refusal(knock, of: nil, at: 0, &memory) == nil) }
    #expect(refusal(16, of: nil, at: 0, &memory) == .replayMemoryFull)
  }

  @Test func `only what is newly remembered is charged`() {
    var memory = replayMemory(16)
    let (alice, bob) = (number(of: 0), number(of: 1))
    #expect(refusal(0, of: alice, at: 0, &memory) == nil)
    // Replays, also of a user who has nothing left.
    for _ in 0..<10 { #expect(refusal(0, of: alice, at: 1, &memory) == .replayed) }
    #expect(refusal(1, of: alice, at: 1, &memory) == nil)
    #expect(refusal(2, of: alice, at: 1, &memory) == .keyTooFast)
    #expect(refusal(0, of: alice, at: 2, &memory) == .replayed)
    // What is older than the memory.
    memory.refuse(upTo: start - 10, nil)
    for knock in 3..<13 {
      #expect(refusal(knock, of: bob, at: 3, skew: -13, &memory) == .olderThanMemory)
    }
    #expect(refusal(3, of: alice, at: 3, skew: -13, &memory) == .olderThanMemory)
    // A knock that finds no room.
    for knock in 20..<34 { #expect(refusal(knock, of: nil, at: 4, &memory) == nil) }
    for knock in 40..<50 {
      #expect(refusal(knock, of: bob, at: 4, &memory) == .replayMemoryFull)
    }
    #expect(refusal(40, of: alice, at: 4, &memory) == .keyTooFast)
    // All is forgotten again, and bob still has all of his share.
    #expect(refusal(50, of: bob, at: 3 * drift, &memory) == nil)
    #expect(refusal(51, of: bob, at: 3 * drift, &memory) == nil)
    #expect(refusal(52, of: bob, at: 3 * drift, &memory) == .keyTooFast)
  }

  @Test func `another user in the same slot begins with a full share`() {
    var memory = replayMemory(16)
    for generation in UInt32(1)...3 {
      let user = number(of: 5, generation: generation)
      let first = 3 * Int(generation)
      let refusals = (first..<first + 3).map { refusal($0, of: user, at: 0, &memory) }
      #expect(refusals == [nil, nil, .keyTooFast])
    }
  }

  @Test(arguments: UInt64(0)..<40)
  func `whatever one user sends, the others' knocks within their shares find room`(seed: UInt64) {
    var random = Generator(seed: seed)
    let capacity = Int.random(in: 16...200, using: &random)
    let share = capacity / 8
    var memory = replayMemory(capacity)
    var time: Int64 = 0
    var knock = 0
    // When each of the others has knocked. They do not knock more often than their share allows.
    var accepted = [[Int64]](repeating: [], count: 4)
    for _ in 0..<4000 {
      time += Int64.random(in: 0...drift / Int64(capacity), using: &random)
      knock += 1
      let skew = Int64.random(in: 1 - drift...drift, using: &random)
      let user = Int.random(in: 0..<20, using: &random)
      if user < accepted.count {
        let recent = accepted[user].filter { $0 > time - 2 * drift - Int64(share) }
        guard recent.count < share else { continue }
        accepted[user] = recent + [time]
        #expect(refusal(knock, of: number(of: user), at: time, skew: skew, &memory) == nil)
      } else {
        // As late as it can be forgotten.
        let refusal = refusal(knock, of: number(of: 9), at: time, skew: drift, &memory)
        #expect(refusal == nil || refusal == .keyTooFast)
      }
    }
  }
}
