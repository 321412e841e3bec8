// What is typed at a terminal.
#pragma once

/// If a descriptor is a terminal: writes the prompt to it, and no longer shows what is typed there. A signal that
/// ends or stops this process shows it again first.
void csys_hide_input(int fd, const char *prompt);

/// Ends what `csys_hide_input` did.
void csys_show_input(void);
