//! What the cases stand on.
//!
//! * [`setup`]: a folder with a configuration and applications in it, from which a daemon is started
//! * [`daemon`]: the running daemon: its log, its processes, its end
//! * [`process`]: processes as `/proc` shows them
//! * [`fastcgi`]: a FastCGI client with a hand on every byte
//! * [`load`]: many clients at once
//! * [`http`]: a browser, as far as the site needs one
//! * [`nginx`], [`site`]: a real nginx, the real Django site
//! * [`stores`]: a real PostgreSQL, a real memcached
//! * [`php_fpm`]: the real php-fpm, to compare with
//! * [`wait`]: waiting for a state, with a deadline

pub mod daemon;
pub mod fastcgi;
pub mod http;
pub mod load;
pub mod nginx;
pub mod php_fpm;
pub mod process;
pub mod setup;
pub mod site;
pub mod stores;
pub mod wait;
