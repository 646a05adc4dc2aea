// twill-holder [--no-standby] [--stay] COMMAND [ARGUMENT...]: see holder.h.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cerrno>

#include "holder/holder.h"

int main(int argc, char** argv) {
  bool has_standby = true, stays = false;
  char** command = argv + (argc > 0 ? 1 : 0);
  for (; *command != nullptr; command++) {
    if (strcmp(*command, "--no-standby") == 0) has_standby = false;
    else if (strcmp(*command, "--stay") == 0) stays = true;
    else break;
  }
  if (*command == nullptr || **command == '-') {
    fprintf(stderr,
            "Usage: twill-holder [--no-standby] [--stay] COMMAND [ARGUMENT...]\n"
            "Runs the command, twilld say, keeps its descriptors when it is killed, and starts it again with them.\n"
            "In the udp mode a second process waits meanwhile, with its code loaded, so that this is quick; it takes\n"
            "some 50 MB, and --no-standby does without.\n"
            "--stay is for containers: when another daemon has taken over, it idles instead of ending, since a\n"
            "container that ends is started again. It runs the command again when the other one has gone for 3 s.\n"
            "Below systemd it runs the command in its own place: the store of the service manager does the same\n"
            "(FileDescriptorStoreMax= in the unit).\n");
    return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
  }
  const char* manager = getenv("NOTIFY_SOCKET");
  if (manager != nullptr && *manager != '\0') {
    execvp(command[0], command);
    fprintf(stderr, "twill-holder: cannot run \"%s\": %s\n", command[0], strerror(errno));
    return 127;
  }
  return twill::holder::Holder(command, has_standby, stays).Run();
}
