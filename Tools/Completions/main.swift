// completions DIRECTORY: writes the completions for bash, zsh and fish, from the tables of options. It is not
// shipped. `make completions` runs it.

import Glibc

// Only debug builds let this program see the tables.
#if DEBUG
  let applets = [
    Applet("server", ServerOptions.self, "wait for knocks"),
    Applet("client", ClientOptions.self, "send a knock"),
    Applet("keygen", KeygenOptions.self, "make a key"),
    Applet("status", StatusOptions.self, "print what is open"),
  ]

  guard CommandLine.arguments.count == 2 else { fatalError("usage: completions DIRECTORY") }
  for (name, text) in [
    ("pyknock.bash", bash(applets)), ("_pyknock", zsh(applets)), ("pyknock.fish", fish(applets)),
  ] {
    let path = CommandLine.arguments[1] + "/" + name
    guard let file = fopen(path, "w") else { fatalError("cannot write \(path)") }
    fputs(text, file)
    guard fclose(file) == 0 else { fatalError("cannot write \(path)") }
  }
#endif
