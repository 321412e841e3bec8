import KnockBase

/// How often something may happen: some times at once, and then once in each interval.
public struct RateLimit: BitwiseCopyable, Sendable {
  /// How long one more takes to earn (microseconds).
  fileprivate let interval: Int64
  /// The longest time in which a bucket with one left can fill up.
  fileprivate let slack: Int64

  public init(atOnce count: Int64, interval: Int64) {
    self.interval = interval
    slack = interval * (count - 1)
  }

  /// So many at once, which take this time to earn again (microseconds). Rounded up, so that it is never too many.
  public init(_ count: Int64, within time: Int64) {
    self.init(atOnce: count, interval: (time - 1) / count + 1)
  }
}

/// A bucket that is full at first. Each use takes one out, and time puts them back.
public struct Bucket: BitwiseCopyable, Sendable {
  /// When it is full again, in monotonic microseconds.
  private var full: Int64 = 0

  public init() {}

  public func holds(_ limit: RateLimit, now: Int64) -> Bool { full - now <= limit.slack }

  /// Takes one out. Returns false if it is empty.
  public mutating func take(_ limit: RateLimit, now: Int64) -> Bool {
    guard holds(limit, now: now) else { return false }
    full = max(full, now) + limit.interval
    return true
  }
}

/// A bucket for each user, by slot. Whoever gets a slot that is used again begins with a full one.
public struct UserBuckets: ~Copyable {
  public struct Element: BitwiseCopyable {
    fileprivate var number: UserNumber = 0
    fileprivate var bucket = Bucket()
  }

  private let buckets: Storage<Element>

  /// - Parameter buckets: as many as slots, all zero. Only those of users who knock are touched.
  public init(_ buckets: consuming Storage<Element>) { self.buckets = buckets }

  /// The bucket of a user.
  public subscript(number: UserNumber) -> Bucket {
    get {
      let element = buckets[Users.slot(of: number)]
      return element.number == number ? element.bucket : Bucket()
    }
    nonmutating set {
      buckets[Users.slot(of: number)] = Element(number: number, bucket: newValue)
    }
  }
}
