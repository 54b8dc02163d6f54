<?php
usleep(200000);
header('Content-Type: text/plain');
echo "Hello, world\n";
