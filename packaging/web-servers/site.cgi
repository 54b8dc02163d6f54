#!/bin/sh
# For cgi-fcgi.conf, which says where the pool listens.
exec cgi-fcgi -bind -connect "$POOL"
