# The pages of probe.md on Perl's FCGI.

use strict;
use warnings;

use FCGI;
use Time::HiRes qw(usleep);

my $PATTERN = join '', map { chr(($_ * 7 + int($_ / 256)) % 251) } 0 .. 65520;

# Standard error as the program was given it: while a request is served, STDERR is the request's.
open(my $own_stderr, '>&', 2) or die "cannot copy standard error: $!";
$own_stderr->autoflush(1);

my $left = $ENV{PROBE_REQUESTS};
my %params;
my $request = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \%params);
while ($request->Accept() >= 0) {
    answer();
    $request->Finish();
    last if defined $left && --$left <= 0;
}

# The number behind "NAME=" in the query; 0 without one.
sub number {
    my ($name) = @_;
    return $params{QUERY_STRING} =~ /\b$name=(\d+)/ ? $1 : 0;
}

sub answer {
    my ($page) = $params{DOCUMENT_URI} =~ m{([^/]*)$};
    if ($page eq 'teapot') {
        print "Status: 418 I'm a teapot\r\nContent-Type: text/plain\r\n\r\nshort and stout\n";
        return;
    }
    if ($page eq 'crash') {
        print {$own_stderr} "about to crash\n";
        kill 'SEGV', $$;
    }
    if ($page eq 'exit') {
        print {$own_stderr} "about to exit\n";
        require POSIX;
        POSIX::_exit(number('status'));
    }
    print "Content-Type: application/octet-stream\r\n\r\n";
    if ($page eq 'pid') {
        print $$;
    } elsif ($page eq 'show') {
        for my $name (qw(REQUEST_METHOD QUERY_STRING CONTENT_LENGTH HTTP_HOST HTTP_PROXY REMOTE_ADDR)) {
            print "$name=", $params{$name} // '', "\n";
        }
    } elsif ($page eq 'environment') {
        print "$_=$ENV{$_}\n" for sort keys %ENV;
    } elsif ($page eq 'echo' || $page eq 'count') {
        my $count = 0;
        while (read(STDIN, my $bytes, 65536)) {
            $count += length $bytes;
            print $bytes if $page eq 'echo';
        }
        print $count if $page eq 'count';
    } elsif ($page eq 'store') {
        my $body = '';
        while (read(STDIN, my $bytes, 65536)) {
            $body .= $bytes;
        }
        print $body;
    } elsif ($page eq 'make') {
        my $bytes = number('bytes');
        while ($bytes > 0) {
            print $bytes < length $PATTERN ? substr($PATTERN, 0, $bytes) : $PATTERN;
            $bytes -= length $PATTERN;
        }
    } elsif ($page eq 'slow') {
        usleep(1000 * number('ms'));
        print 'slept';
    } elsif ($page eq 'family') {
        # One that ends as a program does, which flushes and closes what it has, and one that turns into another.
        my $child = fork();
        exit 0 unless $child;
        waitpid $child, 0;
        print 'forked, ', `echo executed`;
    } elsif ($page eq 'child') {
        # One that goes on behind the answer.
        my $child = fork();
        exec '/bin/sleep', '600' unless $child;
        print $child;
    } elsif ($page eq 'last') {
        $left = 1;
        print 'the last one';
    } elsif ($page eq 'complain') {
        print STDERR "a word on the request's stderr\n";
        print {$own_stderr} "a word on the program's stderr\n";
        print 'complained';
    } elsif ($page eq 'halfway') {
        print 'x' x 100_000;
        $request->Flush();
        kill 'SEGV', $$;
    } else {
        print "no such page: $params{DOCUMENT_URI}";
    }
}
