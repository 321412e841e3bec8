// swift-tools-version: 6.2
import PackageDescription

// The Embedded feature itself is switched on by the build (`make`), not here: the same sources
// compile as regular Swift for the tests and as Embedded Swift for the program that is shipped.
let settings: [SwiftSetting] = [
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .treatWarning("EmbeddedRestrictions", as: .error),
]

// What may use what; `scripts/check-targets` guards it.
let package = Package(
  name: "pyknock",
  targets: [
    .target(name: "KnockBase", swiftSettings: settings),
    .target(name: "KnockProtocol", dependencies: ["KnockBase"], swiftSettings: settings),
    .target(
      name: "KnockServer", dependencies: ["KnockBase", "KnockProtocol"], swiftSettings: settings),
    .target(name: "Netfilter", dependencies: ["KnockBase"], swiftSettings: settings),
    .target(name: "CSystem"),
    .target(name: "CSodium", linkerSettings: [.linkedLibrary("sodium")]),
    .target(
      name: "Programs",
      dependencies: [
        "CSystem", "CSodium", "KnockBase", "KnockProtocol", "KnockServer", "Netfilter",
      ],
      swiftSettings: settings),
    .executableTarget(name: "pyknock", dependencies: ["Programs"]),
    .executableTarget(name: "completions", dependencies: ["Programs"], path: "Tools/Completions"),
    .target(
      name: "TestSupport", dependencies: ["CSodium", "KnockBase", "KnockProtocol"],
      path: "Tests/TestSupport"),
    .executableTarget(
      name: "differential", dependencies: ["KnockBase", "KnockProtocol", "TestSupport"],
      path: "Tests/Differential", exclude: ["run"]),
    .testTarget(name: "KnockBaseTests", dependencies: ["KnockBase", "TestSupport"]),
    .testTarget(
      name: "KnockProtocolTests", dependencies: ["KnockBase", "KnockProtocol", "TestSupport"]),
    .testTarget(
      name: "KnockServerTests",
      dependencies: ["KnockBase", "KnockProtocol", "KnockServer", "TestSupport"]),
    .testTarget(name: "NetfilterTests", dependencies: ["KnockBase", "Netfilter", "TestSupport"]),
    .testTarget(
      name: "ProgramsTests",
      dependencies: ["KnockBase", "KnockProtocol", "KnockServer", "Programs", "TestSupport"]),
  ]
)
