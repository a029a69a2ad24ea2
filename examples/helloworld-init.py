# The init section of pyforkexec's example: it runs once, in the zygote.
import os
import re
import sys
import email.message
import xml.dom.minidom

pattern = re.compile("he.*ld")
