"""The FTP server of suppaftp's tests, in place of their container, in a folder. Prints its port."""

import os
import signal
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

# Ends by itself if the test cannot end it.
signal.alarm(300)
home = sys.argv[1]
os.mkdir(os.path.join(home, "invalid-utf8"))
open(os.path.join(home.encode(), b"invalid-utf8", b"caf\xe9.txt"), "w").close()
FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_user("test", "test", home, perm="elradfmwMT")
# A longer one would have two lines.
FTPHandler.banner = "Welcome Alpine ftp server"
server = FTPServer(("127.0.0.1", 0), FTPHandler)
print(server.socket.getsockname()[1], flush=True)
server.serve_forever()
