//! Reading the settings anew while clients stay: all that is right is taken over, or nothing is.

use super::host::Moment;
use super::listener::unacknowledged;
use super::tls::Certificates;
use super::{Listener, Reactor};
use crate::config::{Config, Reloaded, reload};

impl Reactor {
    /// Reads the settings, and the files that they name, anew.
    #[cold]
    pub(super) fn reload(&mut self) {
        self.host.tell(Moment::Reloading);
        match self.read_settings() {
            Ok((reloaded, certificates)) => self.apply(reloaded, certificates),
            Err(problems) => {
                for problem in &problems {
                    log::error!("{problem}");
                }
                log::error!("the settings stay as they are: put right what is wrong, and reload again");
            }
        }
        self.host.tell(Moment::Ready);
    }

    /// What there is to take over; nothing has been changed yet.
    fn read_settings(&mut self) -> Result<(Reloaded, Option<Certificates>), Vec<String>> {
        let mut read = self.host.read()?;
        if self.has_admin_given && read.admin_listen.is_none() {
            read.admin_listen = self.running.admin_listen;
        }
        let reloaded = reload(&self.running, &read);
        let certificates = match self.sockets.tls() {
            Some(_) if reloaded.config.tls.certificate.is_empty() => {
                return Err(vec!["tls.certificate: TLS is served, so there must be one".into()]);
            }
            Some(_) => Some(Certificates::read(&reloaded.config).map_err(|error| vec![error.to_string()])?),
            None => None,
        };
        Ok((reloaded, certificates))
    }

    fn apply(&mut self, reloaded: Reloaded, certificates: Option<Certificates>) {
        let Reloaded { config, changed, restart } = reloaded;
        if let Some(tls) = self.sockets.tls()
            && let Some(certificates) = certificates
        {
            tls.renew(&config, certificates);
        }
        let unacknowledged = unacknowledged(&config);
        self.listeners.iter().for_each(|listener: &Listener| listener.give_up_after(unacknowledged));
        self.askers.reconfigure(&config);
        let kept: Config = config.clone();
        self.server.reconfigure(config);
        self.host.applied(&kept);
        self.running = kept;
        match changed[..] {
            [] => log::info!(
                "settings read anew: none has changed (certificates and keys are read in any case)"
            ),
            _ => log::info!("settings read anew; these count from now on: {}", changed.join(", ")),
        }
        if !restart.is_empty() {
            log::warn!("these have changed, too, and need a restart: {}", restart.join(", "));
        }
    }
}
