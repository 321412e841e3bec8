import KnockBase
import KnockProtocol

extension Users {
  /// Whether there is such a user with this key.
  public func has(_ name: UserName, _ key: KeyFingerprint) -> Bool {
    user(name, key) != nil
  }

  private func user(_ name: UserName, _ key: KeyFingerprint) -> User? {
    guard let slot = slot(named: name), let user = self[slot], user.key == key else { return nil }
    return user
  }

  /// What becomes of a grant by what its user may do now.
  ///
  /// - Parameter wallNow: microseconds since the Unix epoch.
  public func revision(of grant: Grant, wallNow: Int64) -> Grants.Revision {
    guard let user = user(grant.user, grant.key), user.policy.mayOpen,
      wallNow < user.policy.expires, user.allows(grant.range)
    else { return .close }
    let place = user.policy.place(for: grant.address.family)
    let isInPlace =
      grant.set == place.set && (grant.isNarrowed || grant.prefixLength == place.prefixLength)
    return .end(
      at: min(grant.asked.addingSaturated(user.policy.duration), user.policy.expires),
      isInPlace: grant.set == 0 || isInPlace)
  }
}
