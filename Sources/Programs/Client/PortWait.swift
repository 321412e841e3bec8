import KnockBase
import KnockProtocol

extension Senders {
  /// Connects to the TCP port of each host that has one. Meanwhile sends the knocks of `--repeat` that are left, and
  /// knocks again on hosts whose port does not open.
  ///
  /// - Returns: the connection that was made last; none without a port. The others are closed.
  mutating func connect() throws(ClientError) -> Descriptor {
    guard hasPort else { return .none }
    let start = SystemClock.monotonic()
    let end = start + settings.waitSeconds * Microseconds.second
    var (running, placeCount) = (0, 0)
    var connection = Descriptor.none
    do throws(SystemError) {
      var races = try FixedList<ConnectionRace?>(capacity: count)
      for index in 0..<count {
        let race = try items[index].race(from: start, until: end, firstPlace: placeCount)
        races.append(race)
        guard let places = races[index]?.places else { continue }
        placeCount = places.upperBound
        running += 1
      }
      let sockets = try ConnectingSockets(count: placeCount)
      // A host without a port gets all its knocks.
      let needsAllRounds = running < count
      while running > 0 || needsAllRounds && roundsLeft > 0 {
        let now = SystemClock.monotonic()
        guard running == 0 || now < end else { break }
        if roundsLeft > 0, nextRound <= now { sendRound(.open) }
        var moment = min(running > 0 ? end : .max, roundsLeft > 0 ? nextRound : .max)
        for index in 0..<count {
          if races[index]?.takeKnock(now: now) == true { _ = items[index].send(.open) }
          while let attempt = races[index]?.takeAttempt(now: now) {
            do throws(SystemError) {
              try items[index].begin(attempt, sockets)
            } catch { races[index]?.failAtOnce(error, now: now) }
          }
          moment = min(moment, races[index]?.nextDeadline ?? .max)
        }
        guard let place = try sockets.next(until: moment) else { continue }
        for index in 0..<count
        where races[index]?.finish(at: place, sockets, &connection) == true { running -= 1 }
      }
      for index in 0..<count {
        if let reason = races[index]?.failure(sockets) {
          items[index].logClosedPort(after: settings.waitSeconds, reason)
        }
      }
    } catch { throw .system(error) }
    guard running == 0 else { throw .portNotOpened }
    return connection
  }
}
