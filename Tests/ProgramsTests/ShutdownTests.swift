import Testing

@testable import Programs

@Suite struct ShutdownTests {
  @Test func `a server that nobody stops has no next phase`() {
    var shutdown = Shutdown(closesGrants: true)
    let step = shutdown.advance(isDrained: true, isClosing: false, now: 5)
    #expect(step == nil)
    #expect(!shutdown.hasBegun && !shutdown.isEnding)
    #expect(shutdown.nextDeadline == .max)
  }

  @Test func `grants stay open unless they are to be closed`() {
    var shutdown = Shutdown(closesGrants: false)
    shutdown.begin(now: 5)
    #expect(shutdown.hasBegun)
    #expect(shutdown.advance(isDrained: false, isClosing: true, now: 5) == nil)
    #expect(shutdown.advance(isDrained: true, isClosing: true, now: 5) == .endCommands)
    #expect(shutdown.isEnding)
    #expect(shutdown.advance(isDrained: true, isClosing: true, now: 5) == nil)
  }

  @Test func `closing ends when nothing is left to close`() {
    var shutdown = Shutdown(closesGrants: true)
    shutdown.begin(now: 5)
    #expect(shutdown.advance(isDrained: true, isClosing: false, now: 5) == .closeGrants)
    #expect(!shutdown.isEnding)
    #expect(shutdown.nextDeadline == 60_000_005)
    #expect(shutdown.advance(isDrained: true, isClosing: true, now: 60_000_004) == nil)
    #expect(shutdown.advance(isDrained: true, isClosing: false, now: 60_000_004) == .endCommands)
  }

  @Test func `closing ends after a minute or when asked again`() {
    for asksAgain in [false, true] {
      var shutdown = Shutdown(closesGrants: true)
      shutdown.begin(now: 5)
      #expect(shutdown.advance(isDrained: true, isClosing: true, now: 5) == .closeGrants)
      if asksAgain { shutdown.begin(now: 5) }
      let now: Int64 = asksAgain ? 6 : 60_000_005
      #expect(shutdown.nextDeadline <= now)
      #expect(shutdown.advance(isDrained: true, isClosing: true, now: now) == .endCommands)
      shutdown.begin(now: 5)
      #expect(shutdown.isEnding)
    }
  }

  @Test func `knocks are acted on for three seconds or until asked again`() {
    var shutdown = Shutdown(closesGrants: false)
    #expect(shutdown.takesKnocks(now: .max))
    shutdown.begin(now: 5)
    #expect(shutdown.takesKnocks(now: 3_000_004))
    #expect(!shutdown.takesKnocks(now: 3_000_005))
    shutdown.begin(now: 6)
    #expect(!shutdown.takesKnocks(now: 6))
  }

  @Test func `a pause moves the limits`() {
    var shutdown = Shutdown(closesGrants: true)
    shutdown.postpone(by: 1_000_000)
    #expect(!shutdown.hasBegun)
    shutdown.begin(now: 5)
    shutdown.postpone(by: 1_000_000)
    #expect(shutdown.takesKnocks(now: 4_000_004))
    #expect(!shutdown.takesKnocks(now: 4_000_005))
    #expect(shutdown.advance(isDrained: true, isClosing: true, now: 5) == .closeGrants)
    shutdown.postpone(by: 1_000_000)
    #expect(shutdown.nextDeadline == 61_000_005)
    shutdown.begin(now: 6)
    shutdown.postpone(by: 1_000_000)
    #expect(shutdown.nextDeadline <= 1_000_000)
  }
}
