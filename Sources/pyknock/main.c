// The linker resolves `main` to this module, so the entry is C; the program is Swift from here on.
int pyknock_main(int argc, char **argv);

int main(int argc, char **argv) { return pyknock_main(argc, argv); }
